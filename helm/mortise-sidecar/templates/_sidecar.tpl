{{- /*
For the pod template of an application. Each takes the chart's context ("."):

  spec:
    securityContext: (include "mortise-sidecar.podSecurity" .)
    initContainers:  (include "mortise-sidecar.initContainers" .)
    containers:
      - env:          (include "mortise-sidecar.env" .)
        volumeMounts: (include "mortise-sidecar.volumeMounts" .)
    volumes:         (include "mortise-sidecar.volumes" .)

and for that of a StatefulSet, beside its template, where it is not empty:

  volumeClaimTemplates: (include "mortise-sidecar.volumeClaimTemplates" .)
*/}}
{{- define "mortise-sidecar.with" -}}
{{- $values := index .Values "mortise-sidecar" -}}
{{- if not $values }}{{ fail "the values of mortise-sidecar are missing: is it among the chart's dependencies?" }}{{ end -}}
{{- toYaml $values -}}
{{- end }}

{{- define "mortise-sidecar.podSecurity" -}}
{{- $values := include "mortise-sidecar.with" . | fromYaml -}}
fsGroup: {{ $values.socketGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "mortise-sidecar.initContainers" -}}
{{- $values := include "mortise-sidecar.with" . | fromYaml -}}
{{- $agent := dict "root" . "values" $values -}}
{{- /* The volume is writable for all of the pod; the socket's folder in it is the agent's own. */}}
- name: mortise-socket-folder
  image: {{ include "mortise-agent.image" $agent }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  command: [{{ index $values.program 0 }}]
  args: [-e, "const fs = require('node:fs'); fs.mkdirSync('/run/mortise/socket', { recursive: true }); fs.chmodSync('/run/mortise/socket', 0o750)"]
  securityContext:
    {{- include "mortise-agent.containerSecurity" $agent | nindent 4 }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    - { name: mortise-socket, mountPath: /run/mortise }
{{- if and $values.registry.url $values.registry.enrolmentTokens.secret }}
{{ include "mortise-agent.enrol" $agent }}
{{- end }}
- name: mortise
  image: {{ include "mortise-agent.image" $agent }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  restartPolicy: Always # a native sidecar: up before the application starts, stopped after it has ended
  command:
    {{- toYaml $values.program | nindent 4 }}
  args: [serve]
  env:
    - { name: MORTISE_SOCKET_PATH, value: /run/mortise/socket/agent.sock }
    - { name: MORTISE_SOCKET_GROUP, value: {{ $values.socketGroup | quote }} }
    {{- include "mortise-agent.environment" $agent | nindent 4 }}
  ports:
    - { name: mortise-metrics, containerPort: {{ $values.metrics.port }} }
  {{- include "mortise-agent.probes" $agent | nindent 2 }}
  securityContext:
    {{- include "mortise-agent.containerSecurity" $agent | nindent 4 }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    {{- include "mortise-agent.mounts" $agent | nindent 4 }}
    - { name: mortise-socket, mountPath: /run/mortise }
{{- end }}

{{- define "mortise-sidecar.env" -}}
- { name: MORTISE_SOCKET, value: /run/mortise/agent.sock }
- { name: MORTISE_TOKEN_FILE, value: /var/run/secrets/mortise/token }
{{- end }}

{{- define "mortise-sidecar.volumeMounts" -}}
- { name: mortise-socket, mountPath: /run/mortise, subPath: socket, readOnly: true }
- { name: mortise-jwt, mountPath: /var/run/secrets/mortise, readOnly: true }
{{- end }}

{{- define "mortise-sidecar.volumeClaimTemplates" -}}
{{- $values := include "mortise-sidecar.with" . | fromYaml -}}
{{- if not $values.data.source }}
- metadata:
    name: mortise-data
  spec:
    accessModes: [ReadWriteOncePod]
    {{- with $values.data.claimTemplate.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources: { requests: { storage: {{ required "data.claimTemplate.size" $values.data.claimTemplate.size }} } }
{{- end }}
{{- end }}

{{- define "mortise-sidecar.volumes" -}}
{{- $values := include "mortise-sidecar.with" . | fromYaml -}}
{{- include "mortise-agent.volumes" (dict "root" . "values" $values) }}
{{- if $values.data.source }}
- name: mortise-data
  {{- toYaml $values.data.source | nindent 2 }}
{{- else if not $values.data.claimTemplate.size }}
{{- fail "data.claimTemplate.size of a StatefulSet, or data.source: the agent's data must be somewhere" }}
{{- end }}
- name: mortise-socket
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: mortise-jwt
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: {{ $values.jwt.audience | quote }}
          expirationSeconds: {{ $values.jwt.expirationSeconds }}
{{- end }}
