{{/* From v1.3.0 on the router reads ConfigMaps, and so has a ServiceAccount of its own. */}}
{{- define "bbr.readsConfigMaps" -}}
{{- if semverCompare ">=1.3.0-0" .Chart.Version }}true{{ end -}}
{{- end -}}
