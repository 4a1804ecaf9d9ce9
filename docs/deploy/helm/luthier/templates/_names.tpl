{{- define "luthier.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end }}

{{- define "luthier.labels" -}}
app.kubernetes.io/name: luthier
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "luthier.selector" -}}
app.kubernetes.io/name: luthier
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "luthier.claim" -}}
{{ .Values.data.existingClaim | default (printf "%s-data" (include "luthier.name" .)) }}
{{- end }}

{{/* The pod of a component: API, supervisor and engine hosts differ in their command, resources and probes. */}}
{{- define "luthier.pod" -}}
metadata:
  labels:
    {{- include "luthier.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    checksum/settings: {{ include (print .root.Template.BasePath "/settings.yaml") .root | sha256sum }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .root.Values.terminationGraceSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: luthier
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{ toJson .args }}
      envFrom:
        - configMapRef: {name: {{ include "luthier.name" .root }}-settings}
        {{- range .root.Values.existingSecrets }}
        - secretRef: {name: {{ . }}}
        {{- end }}
      {{- if eq .component "api" }}
      ports:
        - {name: http, containerPort: 8000}
      startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, failureThreshold: 60}
      readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5}
      livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, failureThreshold: 6}
      {{- else if eq .component "engine-host" }}
      env:
        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: LUTHIER_ENGINE_HOST_URL, value: "http://$(POD).{{ include "luthier.name" .root }}-engine-host:8100"}
      ports:
        - {name: engines, containerPort: 8100}
      startupProbe: {httpGet: {path: /healthz, port: engines}, periodSeconds: 2, failureThreshold: 60}
      readinessProbe: {httpGet: {path: /healthz, port: engines}, periodSeconds: 5}
      livenessProbe: {httpGet: {path: /healthz, port: engines}, periodSeconds: 10, failureThreshold: 6}
      {{- else }}
      ports:
        - {name: health, containerPort: 9100}
      startupProbe: {httpGet: {path: /livez, port: health}, periodSeconds: 2, failureThreshold: 60}
      readinessProbe: {httpGet: {path: /readyz, port: health}, periodSeconds: 5}
      livenessProbe: {httpGet: {path: /livez, port: health}, periodSeconds: 10, failureThreshold: 6}
      {{- end }}
      resources: {{ toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /var/lib/luthier}
        - {name: models, mountPath: /models, readOnly: true}
        - {name: cache, mountPath: /var/cache/luthier}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: data
      persistentVolumeClaim: {claimName: {{ include "luthier.claim" .root }}}
    - name: models
      persistentVolumeClaim: {claimName: {{ .root.Values.models.existingClaim }}, readOnly: true}
    - name: cache
      emptyDir: {}
    - name: tmp
      emptyDir: {}
{{- end }}
