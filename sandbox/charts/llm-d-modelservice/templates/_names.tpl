{{- define "ms.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 55 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- define "ms.serviceAccount" -}}
{{- .Values.serviceAccountOverride | default (include "ms.fullname" .) -}}
{{- end -}}
{{- define "ms.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{/* Labels of the pods of a role, and their selector. Input: dict root, role. */}}
{{- define "ms.podLabels" -}}
{{- range $key, $value := .root.Values.modelArtifacts.labels }}
{{ $key }}: {{ $value | quote }}
{{- end }}
llm-d.ai/role: {{ .role }}
{{- end -}}
{{- define "ms.uri" -}}
{{- tpl .Values.modelArtifacts.uri . -}}
{{- end -}}
{{/* What vLLM is told to load: a hub name, or a path on the volume. */}}
{{- define "ms.model" -}}
{{- $uri := include "ms.uri" . -}}
{{- if hasPrefix "hf://" $uri -}}
{{- trimPrefix "hf://" $uri -}}
{{- else if hasPrefix "pvc+hf://" $uri -}}
{{- $parts := splitList "/" (trimPrefix "pvc+hf://" $uri) -}}
{{- join "/" (slice $parts (sub (len $parts) 2 | int)) -}}
{{- else if hasPrefix "pvc://" $uri -}}
{{- printf "%s/%s" .Values.modelArtifacts.mountPath (rest (splitList "/" (trimPrefix "pvc://" $uri)) | join "/") -}}
{{- else -}}
{{- fail (printf "modelArtifacts.uri %q: one of hf://, pvc://, pvc+hf:// is expected" $uri) -}}
{{- end -}}
{{- end -}}
{{/* The port vLLM listens on: behind the sidecar (decode only) it is the proxy's target port. */}}
{{- define "ms.port" -}}
{{- if and .root.Values.routing.proxy.enabled (eq .role "decode") -}}
{{- .root.Values.routing.proxy.targetPort -}}
{{- else -}}
{{- .root.Values.routing.servicePort -}}
{{- end -}}
{{- end -}}
