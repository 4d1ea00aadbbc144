{{- define "pool.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- define "pool.picker" -}}
{{- printf "%s-epp" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- define "pool.labels" -}}
app.kubernetes.io/name: {{ include "pool.picker" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}
{{- define "pool.selector" -}}
inferencepool: {{ include "pool.picker" . }}
{{- end -}}
{{/* The objects that let a collector read the picker's metrics. */}}
{{- define "pool.metricsReader" -}}
{{- $m := .Values.inferenceExtension.monitoring -}}
{{- if or $m.gke.enabled (and $m.prometheus.enabled $m.prometheus.auth.enabled) }}true{{ end -}}
{{- end -}}
{{- define "pool.readerSecret" -}}
{{- printf "%s-metrics-reader-secret" .Release.Name -}}
{{- end -}}
