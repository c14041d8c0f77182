{{/* What the service and the migration have in common: how little they may do, and how they reach PostgreSQL. */}}

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

{{/* Takes the role's name and the root context. */}}
{{- define "api.database.settings" -}}
PGHOST: {{ join "," .root.Values.database.hosts | quote }}
PGPORT: {{ .root.Values.database.port | quote }}
PGDATABASE: {{ .root.Values.database.name | quote }}
PGUSER: {{ .user | quote }}
PGPASSWORD_FILE: /run/secrets/database/password
PGSSLMODE: {{ .root.Values.database.sslmode | quote }}
PGSSLROOTCERT: /run/authority/ca.pem
{{- end -}}

{{/* Takes what holds the password and the authority. Files, so that nothing secret is in the environment. */}}
{{- define "api.database.volumes" -}}
- name: database
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    items:
      - key: password
        path: password
- name: authority
  configMap:
    name: {{ .authority }}
    items:
      - key: ca.pem
        path: ca.pem
{{- end -}}

{{- define "api.database.mounts" -}}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
- name: authority
  mountPath: /run/authority
  readOnly: true
{{- end -}}

{{/* Takes an external secret's name, the key in the store, and the root context. */}}
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
      key: {{ .remote | quote }}
{{- end -}}

{{/* DNS and PostgreSQL: all that a migration reaches, and the beginning of what the service does. */}}
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
