{{/* Names, labels and selectors. */}}

{{- define "api.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* Selector of the pods. Immutable in a Deployment, so never changed. */}}
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

{{/* Labels of every object beside its selector. */}}
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
