{{/* Shared by the API and the migration: security contexts and access to PostgreSQL. */}}

{{- define "api.pod.security" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "api.container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Arguments: the role's name and the root context. */}}
{{- define "api.database.settings" -}}
PGHOST: {{ join "," .root.Values.database.hosts | quote }}
PGPORT: {{ .root.Values.database.port | quote }}
PGDATABASE: {{ .root.Values.database.name | quote }}
PGUSER: {{ .user | quote }}
PGPASSWORD_FILE: /run/secrets/database/password
PGSSLMODE: {{ .root.Values.database.sslmode | quote }}
PGSSLROOTCERT: /run/ca/ca.pem
{{- end -}}

{{/* Arguments: the Secret of the password and the ConfigMap of the CA certificates. Files keep secrets out of the environment. */}}
{{- define "api.database.volumes" -}}
- name: database
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - key: password
        path: password
- name: ca
  configMap:
    name: {{ .ca }}
    items:
      - key: ca.pem
        path: ca.pem
{{- end -}}

{{- define "api.database.mounts" -}}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
- name: ca
  mountPath: /run/ca
  readOnly: true
{{- end -}}

{{/* Arguments: the ExternalSecret's name, the key in the store, and the root context. */}}
{{- define "api.externalSecret.spec" -}}
refreshInterval: {{ .root.Values.externalSecrets.refreshInterval }}
secretStoreRef:
  kind: {{ .root.Values.externalSecrets.store.kind }}
  name: {{ .root.Values.externalSecrets.store.name }}
target:
  name: {{ .name }}
  creationPolicy: Owner
data:
  - secretKey: password
    remoteRef:
      key: {{ .remoteRef | quote }}
{{- end -}}

{{/* DNS and PostgreSQL: all the egress of a migration, and part of the API's. */}}
{{- define "api.database.egress" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - protocol: UDP
      port: 53
    - protocol: TCP
      port: 53
- to:
    {{- range .Values.networkPolicy.databaseCidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    - protocol: TCP
      port: {{ .Values.database.port }}
{{- end -}}
