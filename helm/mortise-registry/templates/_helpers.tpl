{{- define "mortise-registry.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "mortise-registry.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mortise-registry.labels" -}}
{{ include "mortise-registry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mortise
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mortise-registry.image" -}}
{{- $repository := required "image.repository is where you keep the image" .Values.image.repository -}}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "mortise-registry.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "mortise-registry.name" .) }}
{{- end }}

{{- define "mortise-registry.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.user.id }}
runAsGroup: {{ .Values.user.group }}
fsGroup: {{ .Values.user.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "mortise-registry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "mortise-registry.isPostgresql" -}}
{{- if eq .Values.store.kind "postgresql" }}true{{ end }}
{{- end }}

{{- /* The names that clients reach it by; they go into its certificate. */}}
{{- define "mortise-registry.names" -}}
{{- $name := include "mortise-registry.name" . -}}
{{- $service := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- join "," (concat $service .Values.names) -}}
{{- end }}

{{- define "mortise-registry.environment" -}}
- name: REGISTRY_REPLICA
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: REGISTRY_LISTEN_ADDRESS
  value: "0.0.0.0:7443"
- name: REGISTRY_METRICS_ADDRESS
  value: {{ printf "0.0.0.0:%d" (int .Values.metrics.port) | quote }}
- name: REGISTRY_NAMES
  value: {{ include "mortise-registry.names" . | quote }}
- name: REGISTRY_AUTHORITY_DIR
  value: {{ ternary "/etc/mortise/authority" "/var/lib/mortise-registry/authority" (ne .Values.authority.secret "") }}
{{- if include "mortise-registry.isPostgresql" . }}
- name: REGISTRY_DATABASE_URL_FILE
  value: {{ printf "/etc/mortise/database/%s" .Values.store.postgresql.urlSecret.key }}
{{- else }}
- name: REGISTRY_DATA_DIR
  value: /var/lib/mortise-registry/data
{{- end }}
- name: REGISTRY_REQUIRE_HYBRID_TLS
  value: {{ .Values.requireHybrid | quote }}
{{- if .Values.tls.secret }}
- name: REGISTRY_TLS_CERTIFICATE_FILE
  value: /etc/mortise/tls/tls.crt
- name: REGISTRY_TLS_KEY_FILE
  value: /etc/mortise/tls/tls.key
{{- end }}
{{- if .Values.clientRoots.configMap }}
- name: REGISTRY_CLIENT_ROOTS_FILE
  value: {{ printf "/etc/mortise/client-roots/%s" .Values.clientRoots.key }}
{{- end }}
{{- range $name, $value := .Values.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "mortise-registry.mounts" -}}
- { name: tmp, mountPath: /tmp }
{{- if .Values.authority.secret }}
- { name: authority, mountPath: /etc/mortise/authority, readOnly: true }
{{- else if .Values.authority.init.trustAnchor.configMap }}
- { name: trust-anchor, mountPath: /etc/mortise/trust-anchor, readOnly: true }
{{- end }}
{{- if include "mortise-registry.isPostgresql" . }}
- { name: database, mountPath: /etc/mortise/database, readOnly: true }
{{- else }}
- { name: data, mountPath: /var/lib/mortise-registry }
{{- end }}
{{- if .Values.tls.secret }}
- { name: tls, mountPath: /etc/mortise/tls, readOnly: true }
{{- end }}
{{- if .Values.clientRoots.configMap }}
- { name: client-roots, mountPath: /etc/mortise/client-roots, readOnly: true }
{{- end }}
{{- end }}

{{- define "mortise-registry.pod" -}}
metadata:
  labels:
    {{- include "mortise-registry.labels" . | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "mortise-registry.serviceAccount" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGraceSeconds }}
  securityContext:
    {{- include "mortise-registry.podSecurity" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- if and (not .Values.authority.secret) (not (include "mortise-registry.isPostgresql" .)) }}
  initContainers:
    - name: init
      image: {{ include "mortise-registry.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        {{- toYaml .Values.program | nindent 8 }}
      args:
        - init
        - --unless-made
        - --trust-domain={{ required "authority.init.trustDomain, or authority.secret" .Values.authority.init.trustDomain }}
        - --trust-anchor=/etc/mortise/trust-anchor/{{ .Values.authority.init.trustAnchor.key }}
        - --admin={{ .Values.authority.init.admin }}
        - --token-file=/var/lib/mortise-registry/admin.token
      env:
        {{- include "mortise-registry.environment" . | nindent 8 }}
      securityContext:
        {{- include "mortise-registry.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "mortise-registry.mounts" . | nindent 8 }}
  {{- end }}
  containers:
    - name: registry
      image: {{ include "mortise-registry.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        {{- toYaml .Values.program | nindent 8 }}
      args: [serve]
      env:
        {{- include "mortise-registry.environment" . | nindent 8 }}
      ports:
        - { name: grpc, containerPort: 7443 }
        - { name: metrics, containerPort: {{ .Values.metrics.port }} }
      startupProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 1
        failureThreshold: 120
      livenessProbe:
        httpGet: { path: /livez, port: metrics }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: metrics }
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        {{- include "mortise-registry.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "mortise-registry.mounts" . | nindent 8 }}
  volumes:
    - name: tmp
      emptyDir: { medium: Memory, sizeLimit: 16Mi }
    {{- if .Values.authority.secret }}
    - name: authority
      secret: { secretName: {{ .Values.authority.secret }}, defaultMode: 0440 }
    {{- else if .Values.authority.init.trustAnchor.configMap }}
    - name: trust-anchor
      configMap: { name: {{ .Values.authority.init.trustAnchor.configMap }} }
    {{- end }}
    {{- if include "mortise-registry.isPostgresql" . }}
    - name: database
      secret: { secretName: {{ required "store.postgresql.urlSecret.name" .Values.store.postgresql.urlSecret.name }}, defaultMode: 0440 }
    {{- end }}
    {{- if .Values.tls.secret }}
    - name: tls
      secret: { secretName: {{ .Values.tls.secret }}, defaultMode: 0440 }
    {{- end }}
    {{- if .Values.clientRoots.configMap }}
    - name: client-roots
      configMap: { name: {{ .Values.clientRoots.configMap }} }
    {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
