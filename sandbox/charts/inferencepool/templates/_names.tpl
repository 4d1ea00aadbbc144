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
{{/* Whether this is the layout of the charts after v1.2 (packaged from a generation, see ../../package.py). */}}
{{- define "pool.later" -}}
{{- if semverCompare ">=1.3.0-0" .Chart.Version }}true{{ end -}}
{{- end -}}
{{- define "pool.mode" -}}
{{- if include "pool.later" . }}inference.networking.k8s.io/igw-mode: inferencepool{{ end -}}
{{- end -}}
{{/* The picker asks for a token before it shows its metrics: by whether anything reads them, later by a switch. */}}
{{- define "pool.openMetrics" -}}
{{- $p := .Values.inferenceExtension.monitoring.prometheus -}}
{{- if not (ternary $p.auth.enabled $p.enabled (eq (include "pool.later" .) "true")) }}true{{ end -}}
{{- end -}}
{{/* The objects that let a collector read the picker's metrics. */}}
{{- define "pool.metricsReader" -}}
{{- $m := .Values.inferenceExtension.monitoring -}}
{{- if or (($m.gke).enabled) (and $m.prometheus.enabled $m.prometheus.auth.enabled) }}true{{ end -}}
{{- end -}}
{{- define "pool.readerSecret" -}}
{{- printf "%s-metrics-reader-secret" .Release.Name -}}
{{- end -}}
