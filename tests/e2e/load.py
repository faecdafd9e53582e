"""The queries that are sent all the time, and what became of them."""

import kubernetes
from images import TOOLS
from kubernetes import NAMESPACE, OTHER, apply, container, get, kubectl
from names import reverse
from shell import Problem


def load_lines(world):
    """What is sent all the time: lines of probe.c. All of it exists from the beginning to the end."""
    domain = f"{NAMESPACE}.svc.cluster.local"
    service = "test-service-2"
    backends = " ".join(world.addresses("dns-test", "true"))
    lines = [
        f"{service}.{domain} A 0 {world.ip(service)}",
        f"{service}.{domain} AAAA 0",
        f"kubernetes.default.svc.cluster.local A 0 {world.kubernetes['clusterIP']}",
        # The steps of a search list.
        f"{service}.{domain}.{domain} A 3",
        f"www.outside.test.{domain} A 3",
        f"dns-test-service.{domain} A 0 {backends}",
        f"db-0.db.{domain} A 0 {world.pod('db-0')}",
        f"_http._tcp.{service}.{domain} SRV 0 0,100,80,{service}.{domain}",
        f"{reverse(world.ip(service))} PTR 0 {service}.{domain}",
        f"alias.{domain} CNAME 0 {service}.{domain}",
        f"alias.{domain} A 0 {world.ip(service)}",
        f"web-service.{OTHER}.svc.cluster.local A 0 {world.others['web-service']['clusterIP']}",
        f"{world.pod('db-1').replace('.', '-')}.{NAMESPACE}.pod.cluster.local A 0 {world.pod('db-1')}",
    ]
    if "outside" in kubernetes.cluster.can:
        lines.append("www.outside.test A 0 192.0.2.7")
    return lines


class Load:
    """Two pods that send, and what they wrote."""

    def __init__(self, world, rate):
        address = get("service", "kube-dns", "kube-system")["spec"]["clusterIP"]
        text = "".join(f"{it}\n" for it in load_lines(world))
        apply(
            {
                "kind": "ConfigMap",
                "apiVersion": "v1",
                "metadata": {"name": "load", "namespace": NAMESPACE},
                "data": {"names": text},
            }
        )
        template = {
            "metadata": {"labels": {"app": "load"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "volumes": [{"name": "names", "configMap": {"name": "load"}}],
                "containers": [
                    {
                        "name": "c",
                        "image": TOOLS,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["probe", "load", address, str(rate // 2), "/load/names"],
                        "volumeMounts": [{"name": "names", "mountPath": "/load"}],
                    }
                ],
            },
        }
        spec = {"replicas": 2, "selector": {"matchLabels": {"app": "load"}}, "template": template}
        apply(
            {
                "kind": "Deployment",
                "apiVersion": "apps/v1",
                "metadata": {"name": "load", "namespace": NAMESPACE},
                "spec": spec,
            }
        )
        kubectl("rollout", "status", "-n", NAMESPACE, "deployment/load", "--timeout=90s")
        self.pods = [it["metadata"]["name"] for it in get("pods", selector="app=load")]

    def read(self):
        """Lines of the pods: {second: counts}, and events as (time, text)."""
        seconds, events = {}, []
        for pod in get("pods", selector="app=load"):
            name = pod["metadata"]["name"]
            if name not in self.pods or container(pod)["restartCount"]:
                raise Problem(f"the load ended: {container(pod)}")
            for line in kubectl("logs", "-n", NAMESPACE, name).splitlines():
                words = line.split()
                if words[0] == "second":
                    counts = seconds.setdefault(int(words[1]), [0] * 6)
                    for index, value in enumerate(map(int, words[2:])):
                        counts[index] = max(counts[index], value) if index == 5 else counts[index] + value
                else:
                    events.append((float(words[1]), line))
        return seconds, sorted(events)
