{{/* What things are called, and by what they find each other. */}}

{{- define "api.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* By what pods are selected: never to be changed, and never more than this. */}}
{{- define "api.selector" -}}
app.kubernetes.io/name: api
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "api.migration.selector" -}}
app.kubernetes.io/name: api
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: migration
{{- end -}}

{{/* What every object says of its origin, beside a selector. */}}
{{- define "api.origin" -}}
app.kubernetes.io/part-of: causeway
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "api.labels" -}}
{{ include "api.selector" . }}
{{ include "api.origin" . }}
{{- end -}}

{{- define "api.migration.labels" -}}
{{ include "api.migration.selector" . }}
{{ include "api.origin" . }}
{{- end -}}

{{- define "api.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "api.name" .) -}}
{{- end -}}

{{- define "api.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end -}}
{{- end -}}
