{{/* The text of NOTES.txt: how to look at the result, and values that have no effect. */}}
{{- define "lodestone.notes" -}}
{{- $name := .Values.service.name | default (include "lodestone.fullname" .) -}}
{{- $deployment := include "lodestone.deploymentName" . -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion | toString -}}
Lodestone {{ .Chart.AppVersion }}, image {{ .Values.image.repository }}:{{ $tag }}.
{{ if .Values.deployment.enabled }}
Wait for it, and see what it finds wrong:

    kubectl -n {{ .Release.Namespace }} rollout status deployment/{{ $deployment }}
    kubectl -n {{ .Release.Namespace }} exec deployment/{{ $deployment }} -c coredns -- /lodestone doctor

Ask it:

    kubectl -n {{ .Release.Namespace }} exec deployment/{{ $deployment }} -c coredns -- /lodestone dig @127.0.0.1 kubernetes.default.svc.cluster.local
{{ if not .Values.isClusterService }}
Its Service is {{ $name }}.{{ .Release.Namespace }}.svc ({{ .Values.serviceType }}).
{{ end }}
{{- end }}
{{- $notes := list }}
{{- if ne $tag .Chart.AppVersion }}
{{- $notes = append $notes (printf "image.tag is %s, this chart belongs to Lodestone %s. Is it a tag of CoreDNS?" $tag .Chart.AppVersion) }}
{{- end }}
{{- if .Values.rbac.pspEnable }}
{{- $notes = append $notes "rbac.pspEnable has no effect: Kubernetes has no PodSecurityPolicy since version 1.25." }}
{{- end }}
{{- if .Values.dnsConfig }}
{{- $notes = append $notes "dnsConfig has no effect: use deployment.dnsConfig." }}
{{- end }}
{{- if .Values.preStopSleep }}
{{- $notes = append $notes "preStopSleep has no effect: after SIGTERM, queries are answered for `lameduck` of the plugin health and until none comes." }}
{{- end }}
{{- if and .Values.hpa.enabled .Values.autoscaler.enabled }}
{{- $notes = append $notes "hpa.enabled and autoscaler.enabled exclude each other: nothing scales the Deployment." }}
{{- end }}
{{- range .Values.env }}
{{- if has .name (list "GOGC" "GOMAXPROCS" "GODEBUG" "GOTRACEBACK") }}
{{- $notes = append $notes (printf "env: %s has no effect, Lodestone is no Go program. GOMEMLIMIT is read as a memory limit." .name) }}
{{- end }}
{{- end }}
{{- range .Values.zoneFiles }}
{{- if .domain }}
{{- $notes = append $notes (printf "zoneFiles: domain of %s has no effect, as in the coredns chart. Name the file in the plugin file or auto." .filename) }}
{{- end }}
{{- end }}
{{- $plugins := dict }}
{{- $default := dict "dns://" "53" "tls://" "853" "quic://" "853" "https://" "443" "https3://" "443" "grpc://" "443" }}
{{- range $index, $server := .Values.servers }}
{{- range .plugins }}{{ $_ := set $plugins .name true }}{{ end }}
{{- $zones := .zones | default list }}
{{- range $position, $zone := $zones }}
{{- $implied := get $default (.scheme | default "dns://") }}
{{- if and $server.port (lt (add1 $position) (len $zones)) (ne (toString $server.port) $implied) }}
{{- $notes = append $notes (printf "servers[%d]: %s is served on port %s, not %v: the port belongs to the last zone of the list, as in the coredns chart. Write it into the zone." $index ($zone.zone | default ".") $implied $server.port) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.livenessProbe.enabled (not (or $plugins.health .Values.extraConfig .Values.deployment.skipConfig)) }}
{{- $notes = append $notes "livenessProbe is enabled, but no server has the plugin health: the container will be restarted again and again." }}
{{- end }}
{{- if and .Values.readinessProbe.enabled (not (or $plugins.ready .Values.extraConfig .Values.deployment.skipConfig)) }}
{{- $notes = append $notes "readinessProbe is enabled, but no server has the plugin ready: pods will never be ready." }}
{{- end }}
{{- with $notes }}
Look at these values:
{{ range . }}
* {{ . }}
{{- end }}
{{- end }}
{{- end }}
