{{- define "adadim.fullname" -}}
{{- if contains "adadim" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-adadim" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "adadim.selector" -}}
app.kubernetes.io/name: adadim
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "adadim.labels" -}}
{{ include "adadim.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "adadim.podSecurity" -}}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "adadim.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "adadim.storage" -}}
{{- if .Values.storage.bucket }}{{ .Values.storage.bucket }}{{ else }}/storage{{ end -}}
{{- end -}}

{{- define "adadim.claim" -}}
{{- if .Values.storage.nfs.server }}{{ include "adadim.fullname" . }}-storage{{ else }}{{ .Values.storage.claim }}{{ end -}}
{{- end -}}

{{- define "adadim.serviceImage" -}}
{{ .Values.service.image.repository }}:{{ .Values.service.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "adadim.rayCluster" -}}
{{ include "adadim.fullname" . }}-ray
{{- end -}}

{{- define "adadim.dns" -}}
- to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- define "adadim.database" -}}
{{- if .Values.postgres.enabled }}
- {name: PGPASSWORD, valueFrom: {secretKeyRef: {name: {{ .Values.secret.name }}, key: postgres_password}}}
- {name: DATABASE_URL, value: "postgresql://adadim@{{ include "adadim.fullname" . }}-postgres:5432/adadim"}
{{- else }}
- {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ .Values.secret.name }}, key: database_url}}}
{{- end }}
{{- end -}}
