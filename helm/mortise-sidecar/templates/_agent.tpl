{{- /*
What the agent needs wherever it runs. All take the dictionary { root, values }: the chart's context and the values of
this chart.
*/}}
{{- define "mortise-agent.image" -}}
{{- $image := .values.image -}}
{{- $repository := required "image.repository is where you keep the image" $image.repository -}}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}
{{- else }}{{ $repository }}:{{ $image.tag | default "0.1.0" }}{{ end }}
{{- end }}

{{- define "mortise-agent.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .values.user.id }}
runAsGroup: {{ .values.user.group }}
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "mortise-agent.environment" -}}
{{- $values := .values -}}
- name: MORTISE_HOST_ID
  {{- if $values.hostId.value }}
  value: {{ $values.hostId.value | quote }}
  {{- else }}
  valueFrom: { fieldRef: { fieldPath: {{ $values.hostId.fieldPath }} } }
  {{- end }}
- name: MORTISE_DATA_DIR
  value: /var/lib/mortise/data
- name: MORTISE_METRICS_ADDRESS
  value: {{ printf "0.0.0.0:%d" (int $values.metrics.port) | quote }}
- name: PKCS11_LIBRARY_PATH
  value: {{ required "token.library is the path of the PKCS#11 module" $values.token.library }}
- name: PKCS11_TOKEN_LABEL
  value: {{ required "token.label is the label of the token" $values.token.label | quote }}
- name: PKCS11_PIN_FILE
  value: /etc/mortise/pin/{{ $values.token.pin.key }}
{{- if $values.registry.url }}
- name: MORTISE_REGISTRY_URL
  value: {{ $values.registry.url | quote }}
- name: MORTISE_REGISTRY_REQUIRE_HYBRID
  value: {{ $values.registry.requireHybrid | quote }}
{{- else }}
- name: MORTISE_POLICY_DIR
  value: /etc/mortise/policy
{{- end }}
{{- range $name, $value := $values.token.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $value := $values.environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "mortise-agent.mounts" -}}
{{- $token := .values.token -}}
- { name: mortise-tmp, mountPath: /tmp }
- { name: mortise-data, mountPath: /var/lib/mortise }
- { name: mortise-pin, mountPath: /etc/mortise/pin, readOnly: true }
{{- if not .values.registry.url }}
- { name: mortise-policy, mountPath: /etc/mortise/policy, readOnly: true }
{{- end }}
{{- if $token.libraryVolume.source }}
- { name: mortise-pkcs11-library, mountPath: {{ $token.libraryVolume.mountPath }}, readOnly: true }
{{- end }}
{{- if or $token.configuration.configMap $token.configuration.secret }}
- { name: mortise-pkcs11-configuration, mountPath: {{ $token.configuration.mountPath }}, readOnly: true }
{{- end }}
{{- range $token.volumes }}
- { name: {{ .name }}, mountPath: {{ .mountPath }}, readOnly: {{ .readOnly | default false }} }
{{- end }}
{{- end }}

{{- define "mortise-agent.volumes" -}}
{{- $token := .values.token -}}
- name: mortise-tmp
  emptyDir: { medium: Memory, sizeLimit: 16Mi }
- name: mortise-pin
  secret:
    secretName: {{ required "token.pin.secret has the PIN" $token.pin.secret }}
    defaultMode: 0440
    items: [{ key: {{ $token.pin.key }}, path: {{ $token.pin.key }} }]
{{- if not .values.registry.url }}
- name: mortise-policy
  configMap:
    name: {{ required "policy.configMap, or registry.url" .values.policy.configMap }}
    items:
      - { key: platform.json, path: platform.json }
      - { key: trust-anchor.json, path: trust-anchor.json }
      {{- range .values.policy.tenants }}
      - { key: {{ . }}.json, path: tenants/{{ . }}.json }
      {{- end }}
{{- end }}
{{- if $token.libraryVolume.source }}
- name: mortise-pkcs11-library
  {{- toYaml $token.libraryVolume.source | nindent 2 }}
{{- end }}
{{- if $token.configuration.secret }}
- name: mortise-pkcs11-configuration
  secret: { secretName: {{ $token.configuration.secret }}, defaultMode: 0440 }
{{- else if $token.configuration.configMap }}
- name: mortise-pkcs11-configuration
  configMap: { name: {{ $token.configuration.configMap }} }
{{- end }}
{{- range $token.volumes }}
- name: {{ .name }}
  {{- toYaml .source | nindent 2 }}
{{- end }}
{{- if .values.registry.enrolmentTokens.secret }}
- name: mortise-enrolment
  secret: { secretName: {{ .values.registry.enrolmentTokens.secret }}, defaultMode: 0440, optional: true }
{{- end }}
{{- end }}

{{- define "mortise-agent.probes" -}}
startupProbe:
  httpGet: { path: /readyz, port: {{ .values.metrics.port }} }
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: { path: /livez, port: {{ .values.metrics.port }} }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: {{ .values.metrics.port }} }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* Trades a one-time token for the host's certificate, where there is none yet. */}}
{{- define "mortise-agent.enrol" -}}
- name: mortise-enrol
  image: {{ include "mortise-agent.image" . }}
  imagePullPolicy: {{ .values.image.pullPolicy }}
  command:
    {{- toYaml .values.program | nindent 4 }}
  args: [enrol, --unless-enrolled, --token-file=/etc/mortise/enrolment/$(MORTISE_HOST_ID)]
  env:
    {{- include "mortise-agent.environment" . | nindent 4 }}
  securityContext:
    {{- include "mortise-agent.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .values.resources | nindent 4 }}
  volumeMounts:
    {{- include "mortise-agent.mounts" . | nindent 4 }}
    - { name: mortise-enrolment, mountPath: /etc/mortise/enrolment, readOnly: true }
{{- end }}
