{{/* The labels by which a release finds its pods. They never change, because a Deployment cannot change them. */}}
{{- define "stream-processor.selector" -}}
app.kubernetes.io/name: stream-processor
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of each object. */}}
{{- define "stream-processor.labels" -}}
{{ include "stream-processor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
