{{/* One container of a role. Input: dict root, role, spec, container. */}}
{{- define "ms.container" -}}
{{- $c := .container -}}
{{- $par := .spec.parallelism -}}
- name: {{ $c.name | default "vllm" }}
  image: {{ required "image of container is required" $c.image }}
  {{- with $c.imagePullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  {{- with $c.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "ms.command" . | nindent 2 }}
  env:
    {{- include "ms.env" . | nindent 4 }}
  {{- with $c.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $c.ports }}
  ports:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
  {{- with get $c $probe }}
  {{ $probe }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with $c.extraConfig }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "ms.resources" . | nindent 2 }}
  {{- if or $c.volumeMounts $c.mountModelVolume }}
  volumeMounts:
    {{- with $c.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $c.mountModelVolume }}
    - name: model-storage
      mountPath: {{ .root.Values.modelArtifacts.mountPath }}
    {{- end }}
  {{- end }}
{{- end -}}

{{- define "ms.command" -}}
{{- $c := .container -}}
{{- $root := .root -}}
{{- $par := .spec.parallelism -}}
{{- $kind := $c.modelCommand | default "custom" -}}
{{- if eq $kind "vllmServe" -}}
command: ["vllm", "serve"]
args:
  - {{ include "ms.model" $root }}
  - --port
  - {{ include "ms.port" . | quote }}
  {{- if gt (int $par.tensor) 1 }}
  - --tensor-parallel-size
  - {{ $par.tensor | quote }}
  {{- end }}
  {{- if gt (int $par.data) 1 }}
  - --data-parallel-size
  - {{ $par.data | quote }}
  {{- end }}
  - --served-model-name
  - {{ $root.Values.modelArtifacts.name | quote }}
  {{- range $c.args }}
  - {{ tpl (toString .) $root | quote }}
  {{- end }}
{{- else if or (eq $kind "imageDefault") (eq $kind "custom") -}}
{{- if and (eq $kind "custom") (not $c.command) -}}
{{- fail "When .container.modelCommand not set or `custom`, a `command` is required." -}}
{{- end -}}
{{- if eq $kind "custom" }}
command:
  {{- toYaml $c.command | nindent 2 }}
{{- end }}
{{- with $c.args }}
args:
  {{- range . }}
  - {{ tpl (toString .) $root | quote }}
  {{- end }}
{{- end }}
{{- else -}}
{{- fail (printf ".container.modelCommand is not as expected: %s. Valid values are `vllmServe`, `imageDefault` and `custom`." $kind) -}}
{{- end -}}
{{- end -}}

{{- define "ms.env" -}}
{{- $c := .container -}}
{{- $artifacts := .root.Values.modelArtifacts -}}
{{- with $c.env }}
{{- toYaml . }}
{{ end -}}
- name: DP_SIZE
  value: {{ .spec.parallelism.data | quote }}
- name: TP_SIZE
  value: {{ .spec.parallelism.tensor | quote }}
- name: DP_SIZE_LOCAL
  value: {{ .spec.parallelism.dataLocal | quote }}
{{- if $c.mountModelVolume }}
- name: HF_HOME
  value: {{ $artifacts.mountPath }}
{{- end }}
{{- with $artifacts.authSecretName }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: HF_TOKEN
{{- end }}
{{- end -}}

{{/* The accelerators follow from the parallelism (tensor x dataLocal) unless the values name a number themselves. */}}
{{- define "ms.resources" -}}
{{- $given := .container.resources | default dict -}}
{{- $limits := deepCopy ($given.limits | default dict) -}}
{{- $requests := deepCopy ($given.requests | default dict) -}}
{{- $name := get .root.Values.accelerator.resources .root.Values.accelerator.type -}}
{{- if and $name (not .root.Values.accelerator.dra) -}}
{{- $count := mul (int .spec.parallelism.tensor) (int .spec.parallelism.dataLocal) | toString -}}
{{- if not (hasKey $limits $name) }}{{ $_ := set $limits $name $count }}{{ end -}}
{{- if not (hasKey $requests $name) }}{{ $_ := set $requests $name $count }}{{ end -}}
{{- end -}}
resources:
  {{- with $limits }}
  limits:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $requests }}
  requests:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
