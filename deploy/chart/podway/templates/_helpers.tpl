{{- define "podway.labels" -}}
app.kubernetes.io/name: podway
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "podway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end }}

{{/* Where the agent runs: EC2 instances with Linux. Extra terms are those of the values, and the nodes that are uninstalled. */}}
{{- define "podway.affinity" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          - { key: kubernetes.io/os, operator: In, values: [linux] }
          - { key: kubernetes.io/arch, operator: In, values: [amd64, arm64] }
          - { key: eks.amazonaws.com/compute-type, operator: NotIn, values: [fargate, hybrid, auto] }
          {{- with .Values.agent.affinity }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
          {{- if and .Values.uninstall.enabled (not .isUninstall) }}
          {{- range $key, $value := .Values.uninstall.nodeSelector }}
          - { key: {{ $key }}, operator: NotIn, values: [{{ $value | quote }}] }
          {{- end }}
          {{- end }}
{{- end }}

{{- define "podway.nodeName" -}}
- name: NODE_NAME
  valueFrom: { fieldRef: { fieldPath: spec.nodeName } }
{{- end }}

{{- define "podway.api" -}}
{{- if .Values.kubernetes.host }}
- { name: KUBERNETES_SERVICE_HOST, value: {{ .Values.kubernetes.host | quote }} }
- { name: KUBERNETES_SERVICE_PORT, value: {{ .Values.kubernetes.port | quote }} }
{{- end }}
{{- end }}

{{/*
Both DaemonSets act on the node: network of the node, root without privileges but two capabilities. A sysctl of a pod is
written in the pod's namespace through /host/proc/sys/net, since a runtime mounts /proc/sys read-only and lets nobody
mount inside /proc. SYS_ADMIN is what setns(2) asks for.
*/}}
{{- define "podway.securityContext" -}}
privileged: false
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [NET_ADMIN, SYS_ADMIN]
{{- with .Values.agent.seLinuxOptions }}
seLinuxOptions: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.agent.seccompProfile }}
seccompProfile: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.agent.appArmorProfile }}
appArmorProfile: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "podway.mounts" -}}
- { name: run, mountPath: /run/podway }
- { name: cni-bin, mountPath: /host/opt/cni/bin }
- { name: cni-conf, mountPath: /host/etc/cni/net.d }
- { name: proc-sys-net, mountPath: /host/proc/sys/net }
- { name: netns, mountPath: /run/netns, mountPropagation: HostToContainer }
- { name: var-netns, mountPath: /var/run/netns, mountPropagation: HostToContainer }
{{- end }}

{{- define "podway.volumes" -}}
- name: run
  hostPath: { path: /run/podway, type: DirectoryOrCreate }
- name: cni-bin
  hostPath: { path: {{ .Values.host.binDir }}, type: DirectoryOrCreate }
- name: cni-conf
  hostPath: { path: {{ .Values.host.confDir }}, type: DirectoryOrCreate }
- name: proc-sys-net
  hostPath: { path: /proc/sys/net, type: Directory }
- name: netns
  hostPath: { path: /run/netns, type: DirectoryOrCreate }
- name: var-netns
  hostPath: { path: /var/run/netns, type: DirectoryOrCreate }
{{- end }}
