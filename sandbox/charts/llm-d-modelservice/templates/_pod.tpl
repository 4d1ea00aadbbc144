{{/* Pod spec of a role. Input: dict root, role, spec (the role's values). */}}
{{- define "ms.pod" -}}
{{- $root := .root -}}
{{- $spec := .spec -}}
{{- $proxy := and (eq .role "decode") $root.Values.routing.proxy.enabled -}}
{{- if or $proxy $spec.initContainers }}
initContainers:
  {{- if $proxy }}
  {{- include "ms.sidecar" $root | nindent 2 }}
  {{- end }}
  {{- with $spec.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with ($spec.schedulerName | default $root.Values.schedulerName) }}
schedulerName: {{ . }}
{{- end }}
{{- with $spec.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $spec.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and $spec.acceleratorTypes.labelKey $spec.acceleratorTypes.labelValues }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
        - matchExpressions:
            - key: {{ $spec.acceleratorTypes.labelKey }}
              operator: In
              values: {{ toJson $spec.acceleratorTypes.labelValues }}
{{- end }}
{{- if hasKey $spec "terminationGracePeriodSeconds" }}
terminationGracePeriodSeconds: {{ $spec.terminationGracePeriodSeconds }}
{{- end }}
{{- with $spec.extraConfig }}
{{ toYaml . }}
{{- end }}
serviceAccountName: {{ include "ms.serviceAccount" $root }}
volumes:
  {{- with $spec.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- $mount := false }}
  {{- range $spec.containers }}{{ if .mountModelVolume }}{{ $mount = true }}{{ end }}{{ end }}
  {{- if $mount }}
  {{- include "ms.modelVolume" $root | nindent 2 }}
  {{- end }}
containers:
  {{- range $spec.containers }}
  {{- include "ms.container" (dict "root" $root "role" $.role "spec" $spec "container" .) | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "ms.modelVolume" -}}
{{- $uri := include "ms.uri" . -}}
- name: model-storage
{{- if hasPrefix "hf://" $uri }}
  emptyDir:
    sizeLimit: {{ default "0" .Values.modelArtifacts.size }}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ first (splitList "/" (last (splitList "://" $uri))) }}
    readOnly: {{ hasPrefix "pvc://" $uri }}
{{- end }}
{{- end -}}

{{/* The prefill/decode routing sidecar: a restartable init container. */}}
{{- define "ms.sidecar" -}}
{{- $p := .Values.routing.proxy -}}
- name: routing-proxy
  args:
    - --port={{ .Values.routing.servicePort }}
    - --vllm-port={{ $p.targetPort }}
    - --connector={{ $p.connector }}
    - --zap-encoder={{ $p.zapEncoder }}
    - --zap-log-level={{ $p.zapLogLevel }}
    {{- if hasKey $p "secure" }}
    - --secure-proxy={{ $p.secure }}
    {{- end }}
    {{- if hasKey $p "prefillerUseTLS" }}
    - --prefiller-use-tls={{ $p.prefillerUseTLS }}
    {{- end }}
    {{- with $p.certPath }}
    - --cert-path={{ . }}
    {{- end }}
  image: {{ required "routing.proxy.image must be specified" $p.image }}
  imagePullPolicy: {{ $p.imagePullPolicy }}
  ports:
    - containerPort: {{ .Values.routing.servicePort }}
  resources: {}
  restartPolicy: Always
  securityContext:
    allowPrivilegeEscalation: false
    runAsNonRoot: true
{{- end -}}
