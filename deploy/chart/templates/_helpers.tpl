{{/* Names. The default is `coredns`, not the name of the chart: selectors of a Deployment cannot be changed, so a
     release of the coredns chart can be upgraded to this chart only if they are the same. */}}
{{- define "lodestone.name" -}}
{{ .Values.nameOverride | default "coredns" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "lodestone.fullname" -}}
{{- $name := .Values.nameOverride | default "coredns" -}}
{{- $joined := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{ .Values.fullnameOverride | default $joined | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "lodestone.deploymentName" -}}
{{ .Values.deployment.name | default (include "lodestone.fullname" .) }}
{{- end }}

{{- define "lodestone.clusterRoleName" -}}
{{ (.Values.clusterRole).nameOverride | default (include "lodestone.fullname" .) }}
{{- end }}

{{- define "lodestone.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "lodestone.fullname" .) "default") }}
{{- end }}

{{- define "lodestone.k8sApp" -}}
{{ .Values.k8sAppLabelOverride | default "coredns" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Affinity and topology spread constraints of values files may contain calls of these, by the names that the
     coredns chart gives them. */}}
{{- define "coredns.name" }}{{ include "lodestone.name" . }}{{ end }}
{{- define "coredns.fullname" }}{{ include "lodestone.fullname" . }}{{ end }}
{{- define "coredns.k8sapplabel" }}{{ include "lodestone.k8sApp" . }}{{ end }}
{{- define "coredns.labels" }}{{ include "lodestone.labels" (dict "root" .) }}{{ end }}
{{- define "coredns.serviceAccountName" }}{{ include "lodestone.serviceAccountName" . }}{{ end }}
{{- define "coredns.clusterRoleName" }}{{ include "lodestone.clusterRoleName" . }}{{ end }}

{{/* Labels by which pods are selected. `root`: the context; `suffix`: of the values, for the autoscaler. */}}
{{- define "lodestone.selector" -}}
{{- $suffix := .suffix | default "" -}}
{{- $labels := dict
      "app.kubernetes.io/instance" .root.Release.Name
      "app.kubernetes.io/name" (print (include "lodestone.name" .root) $suffix) -}}
{{- if .root.Values.isClusterService -}}
{{- $_ := set $labels "k8s-app" (print (include "lodestone.k8sApp" .root) $suffix) -}}
{{- end -}}
{{ toYaml $labels }}
{{- end }}

{{/* Labels of every object; `root` and `suffix` as above. */}}
{{- define "lodestone.labels" -}}
{{- $labels := include "lodestone.selector" . | fromYaml -}}
{{- $chart := .root.Chart -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $chart.Name ($chart.Version | replace "+" "_")) -}}
{{- if .root.Values.isClusterService -}}
{{- $_ := set $labels "kubernetes.io/cluster-service" "true" -}}
{{- $_ := set $labels "kubernetes.io/name" "CoreDNS" -}}
{{- end -}}
{{ toYaml $labels }}
{{- end }}

{{/* The metadata of an object. `root`, `name`; optional: `suffix`, `namespace`, `labels` (more of them), `annotations`
     (a list of maps, the last one wins), `plain` (without customLabels). */}}
{{- define "lodestone.metadata" -}}
{{- $labels := include "lodestone.labels" . | fromYaml -}}
{{- $more := empty .plain | ternary (.root.Values.customLabels | default dict) dict -}}
{{- $labels = mergeOverwrite $labels (.labels | default dict) $more -}}
{{- $metadata := dict "name" .name "labels" $labels -}}
{{- with .namespace -}}
{{- $_ := set $metadata "namespace" . -}}
{{- end -}}
{{- $annotations := deepCopy (.root.Values.customAnnotations | default dict) -}}
{{- range .annotations -}}
{{- $annotations = mergeOverwrite $annotations (. | default dict) -}}
{{- end -}}
{{- with $annotations -}}
{{- $_ := set $metadata "annotations" . -}}
{{- end -}}
{{ toYaml $metadata }}
{{- end }}

{{/* A scalar as text. Numbers of values are floating-point: a million would be printed as 1e+06. */}}
{{- define "lodestone.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{/* Ports of the server blocks, as JSON: a map of port to `udp`, `tcp`, `service`, `node` and `host`. */}}
{{- define "lodestone.ports" -}}
{{- $ports := dict -}}
{{- range .Values.servers -}}
{{- $number := .port | default 53 | int -}}
{{- $port := get $ports (toString $number) | default (dict "service" (.servicePort | default $number | int)) -}}
{{- range .zones -}}
{{- $scheme := .scheme | default "dns://" -}}
{{- if has $scheme (list "tls://" "grpc://" "https://") -}}
{{- $_ := set $port "tcp" true -}}
{{- else -}}
{{- $_ := set $port "udp" true -}}
{{- if and .use_tcp (eq $scheme "dns://") -}}{{- $_ := set $port "tcp" true -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (or $port.udp $port.tcp) -}}{{- $_ := set $port "udp" true -}}{{- end -}}
{{- with .nodePort -}}{{- $_ := set $port "node" (int .) -}}{{- end -}}
{{- with .hostPort -}}{{- $_ := set $port "host" (int .) -}}{{- end -}}
{{- $_ := set $ports (toString $number) $port -}}
{{- end -}}
{{ toJson $ports }}
{{- end }}

{{- define "lodestone.servicePorts" -}}
{{- $list := list -}}
{{- range $number, $port := include "lodestone.ports" . | fromJson -}}
{{- range $protocol := list "udp" "tcp" -}}
{{- if get $port $protocol -}}
{{- $entry := dict "name" (printf "%s-%s" $protocol $number) "protocol" (upper $protocol)
      "port" (int $port.service) "targetPort" (int $number) -}}
{{- with $port.node -}}{{- $_ := set $entry "nodePort" (int .) -}}{{- end -}}
{{- $list = append $list $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $list }}
{{- end }}

{{/* As above with the ports of `prometheus` pages. */}}
{{- define "lodestone.containerPorts" -}}
{{- $ports := include "lodestone.ports" . | fromJson -}}
{{- range .Values.servers -}}
{{- range .plugins -}}
{{- if eq .name "prometheus" -}}
{{- $number := toString .parameters | splitList ":" | last | int | default 9153 -}}
{{- $_ := set $ports (toString $number) (dict "tcp" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $list := list -}}
{{- range $number, $port := $ports -}}
{{- range $protocol := list "udp" "tcp" -}}
{{- if get $port $protocol -}}
{{- $entry := dict "name" (printf "%s-%s" $protocol $number) "protocol" (upper $protocol)
      "containerPort" (int $number) -}}
{{- with $port.host -}}{{- $_ := set $entry "hostPort" (int .) -}}{{- end -}}
{{- $list = append $list $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $list }}
{{- end }}

{{/* The Corefile. The port follows the last zone only, as in the coredns chart: NOTES.txt has a remark on it. */}}
{{- define "lodestone.corefile" -}}
{{- range $name, $line := .Values.extraConfig }}
{{- $name }}{{ with $line.parameters }} {{ include "lodestone.text" . }}{{ end }}
{{ end }}
{{- range .Values.servers }}
{{- $keys := list }}
{{- range .zones }}{{ $keys = append $keys (print (.scheme | default "") (.zone | default ".")) }}{{ end }}
{{- $keys | default (list ".") | join " " }}{{ with .port }}:{{ include "lodestone.text" . }}{{ end }} {
{{- range .plugins }}
    {{ .name }}{{ with .parameters }} {{ include "lodestone.text" . }}{{ end }}
{{- with .configBlock }} {
{{ . | trimSuffix "\n" | indent 8 }}
    }
{{- end }}
{{- end }}
}
{{ end }}
{{- end }}

{{/* Refuses what could only fail later, in the pod. */}}
{{- define "lodestone.check" -}}
{{- $repository := .Values.image.repository -}}
{{- if contains "coredns" (base $repository) -}}
{{- fail (printf "image.repository: %s is an image of CoreDNS. Set image.repository, and image.tag if it is set, to your image of Lodestone." $repository) -}}
{{- end -}}
{{- $supported := splitList " " (.Files.Get "plugins.txt" | trim | replace "\n" " ") -}}
{{- range $index, $server := .Values.servers -}}
{{- range $server.plugins -}}
{{- $name := regexFind "[^ \t]+" .name -}}
{{- if not (or (hasPrefix "#" $name) (has $name $supported)) -}}
{{- fail (printf "servers[%d]: Lodestone does not support the plugin %q. Remove it from plugins." $index $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.deployment.dnsPolicy "None") (not .Values.deployment.dnsConfig) -}}
{{- fail "deployment.dnsConfig: required where deployment.dnsPolicy is None." -}}
{{- end -}}
{{- end }}
