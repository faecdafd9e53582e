"""What is asked in pods, and the answers that it must have."""

import ipaddress
import json
import time

import kubernetes
from images import TOOLS
from kubernetes import NAMESPACE, OTHER, apply, get, in_pod, kubectl
from shell import skip


class Check:
    """A command in a pod, and its output: lines in any order."""

    def __init__(self, group, pod, shell, expected):
        self.group, self.pod, self.shell = group, pod, shell
        self.expected = sorted([expected] if isinstance(expected, str) else expected)
        self.seen = None

    def passes(self, output):
        self.seen = sorted(it.strip() for it in output.splitlines() if it.strip())
        return self.seen == self.expected


class World:
    """The objects that names are made of, as the API server has them."""

    def __init__(self):
        self.services = {it["metadata"]["name"]: it["spec"] for it in get("services")}
        self.others = {it["metadata"]["name"]: it["spec"] for it in get("services", namespace=OTHER)}
        self.pods = get("pods")
        self.ours = get("pods", namespace=OTHER)
        self.kubernetes = get("service", "kubernetes", "default")["spec"]

    def ip(self, name):
        return self.services[name]["clusterIP"]

    def addresses(self, label, value, family=4):
        pods = [it for it in self.pods if it["metadata"].get("labels", {}).get(label) == value]
        ips = [one["ip"] for pod in pods for one in pod["status"]["podIPs"]]
        return sorted(it for it in ips if (":" in it) == (family == 6))

    def pod(self, name):
        return next(it["status"]["podIP"] for it in self.pods if it["metadata"]["name"] == name)


def reverse(address):
    return ipaddress.ip_address(address).reverse_pointer


def conformance(world):
    """The names that the DNS tests of Kubernetes (test/e2e/network/dns.go) ask for, and how."""
    domain = f"{NAMESPACE}.svc.cluster.local"
    checks = []

    def dig(group, name, rtype, expected, pod="dns-querier-1"):
        for transport in ("+notcp", "+tcp"):
            checks.append(Check(group, pod, f"dig +short +search {transport} {name} {rtype}", expected))

    api = world.kubernetes["clusterIP"]
    dig("cluster", "kubernetes.default.svc.cluster.local", "A", api)
    for pod in ("dns-querier-1", "long-search", "odd-search", "host-network"):
        for name in ("kubernetes.default", "kubernetes.default.svc"):
            dig(f"partial names, {pod}", name, "A", api, pod)
    backends = world.addresses("dns-test", "true")
    headless, regular = "dns-test-service", "test-service-2"
    for pod in ("dns-querier-1", "host-network"):
        full = pod == "dns-querier-1"
        forms = [f".{NAMESPACE}", f".{NAMESPACE}.svc"] + (["", f".{domain}"] if full else [])
        for form in forms:
            dig(f"services, {pod}", f"{headless}{form}", "A", backends, pod)
        share = 100 // len(backends)
        hosts = ["dns-querier-1" if it == world.pod("dns-querier-1") else it.replace(".", "-") for it in backends]
        targets = [f"0 {share} 80 {host}.{headless}.{domain}." for host in hosts]
        for form in [f"{NAMESPACE}.svc"] + ([domain] if full else []):
            dig(f"services, {pod}", f"_http._tcp.{headless}.{form}", "SRV", targets, pod)
            dig(f"services, {pod}", f"_http._tcp.{regular}.{form}", "SRV", f"0 100 80 {regular}.{domain}.", pod)
        dig(f"services, {pod}", reverse(world.ip(regular)), "PTR", f"{regular}.{domain}.", pod)
    named = world.pod("dns-querier-2")
    dig("hostname", f"dns-querier-2.dns-test-service-2.{domain}", "A", named)
    dig("subdomain", f"dns-test-service-2.{domain}", "A", named)
    dig("subdomain", reverse(named), "PTR", f"dns-querier-2.dns-test-service-2.{domain}.")
    for pod, service in (("dns-querier-1", headless), ("dns-querier-2", "dns-test-service-2")):
        for name in (pod, f"{pod}.{service}.{domain}"):
            hosts = f"getent ahostsv4 {name} | awk '{{print $1}}' | sort -u"
            checks.append(Check("/etc/hosts", pod, hosts, world.pod(pod)))
    dig("ExternalName", f"dns-test-service-3.{domain}", "CNAME", "foo.example.com.")
    dashed = world.pod("dns-querier-2").replace(".", "-")
    dig("pod names", f"{dashed}.{NAMESPACE}.pod.cluster.local", "A", named)
    for index in range(2):
        dig("StatefulSet", f"db-{index}.db.{domain}", "A", world.pod(f"db-{index}"))
        dig("StatefulSet", f"db-{index}.db", "A", world.pod(f"db-{index}"))
    dig("StatefulSet", f"_pg._tcp.db.{domain}", "SRV", [f"0 50 5432 db-{it}.db.{domain}." for it in range(2)])
    both = world.services["dual"]["clusterIPs"]
    if len(both) == 2:
        dig("dual-stack", f"dual.{domain}", "A", [it for it in both if ":" not in it])
        dig("dual-stack", f"dual.{domain}", "AAAA", [it for it in both if ":" in it])
        dig("dual-stack", reverse(both[1]), "PTR", f"dual.{domain}.")
        dig("dual-stack", f"dual-headless.{domain}", "AAAA", world.addresses("dns-test", "true", 6))
        dig("dual-stack", f"dual-headless.{domain}", "A", backends)
    else:
        skip("dual-stack names", "Services of this cluster have one address family")
    if "1kubernetes" in world.services:
        dig("a name that begins with a digit", f"1kubernetes.{domain}", "A", world.ip("1kubernetes"))
    return checks


def resolvers(world, libraries):
    """Names through getaddrinfo of each C library and busybox's nslookup: those of the labs of courses."""
    checks = []
    domain = f"{NAMESPACE}.svc.cluster.local"
    backends = " ".join(world.addresses("dns-test", "true"))
    pays = world.others["web-service"]["clusterIP"]
    ready = next(it["status"]["podIP"] for it in world.ours if it["metadata"]["name"] == "half-ready")
    found = {
        "echo-service": world.ip("echo-service"),
        f"echo-service.{NAMESPACE}": world.ip("echo-service"),
        f"echo-service.{domain}": world.ip("echo-service"),
        f"echo-service.{domain}.": world.ip("echo-service"),
        # From another namespace: with the namespace, and with the whole domain or none of it.
        f"web-service.{OTHER}": pays,
        f"web-service.{OTHER}.svc": pays,
        f"web-service.{OTHER}.svc.cluster.local": pays,
        "web-service": None,
        f"web-service.{OTHER}.svc.cluster": None,
        # Types of Service.
        "hashresponse-svc": world.ip("hashresponse-svc"),
        "balanced": world.ip("balanced"),
        "alias": world.ip("test-service-2"),
        # Endpoints; a pod that is not ready is none.
        "dns-test-service": backends,
        "db-1.db": world.pod("db-1"),
        f"half-ready.{OTHER}": ready,
        "kubernetes.default": world.kubernetes["clusterIP"],
        "no-such-service": None,
        f"{world.pod('db-0').replace('.', '-')}.{NAMESPACE}.pod.cluster.local": world.pod("db-0"),
    }
    if len(world.services["dual"]["clusterIPs"]) == 2:
        found["dual"] = " ".join(sorted(world.services["dual"]["clusterIPs"]))
    if "outside" in kubernetes.cluster.can:
        found["www.outside.test"] = "192.0.2.7"
    unknown = {"glibc": "Name or service not known", "musl": "Name does not resolve"}
    for library in libraries:
        for name, expected in found.items():
            checks.append(
                Check(
                    f"resolver of {library}",
                    "dns-querier-1",
                    f"probe-{library} resolve {name}",
                    expected or unknown[library],
                )
            )
    # busybox adds no search list; the first address that it prints is that of the server.
    for name, expected in found.items():
        if name.endswith("cluster.local") or name == "www.outside.test":
            shell = f"nslookup {name} | awk '/^Address/ && seen++ {{print $NF}}'"
            checks.append(Check("resolver of busybox", "dns-querier-1", shell, expected.split(" ")))
    checks.append(
        Check(
            "resolver of busybox",
            "dns-querier-1",
            f"nslookup nothing.{domain} | awk '/NXDOMAIN/ {{print $NF}}' | sort -u",
            "NXDOMAIN",
        )
    )
    # What a lab shows in the other namespace.
    for name, expected in ((f"echo-service.{NAMESPACE}", world.ip("echo-service")), ("web-service", pays)):
        checks.append(Check("labs, other namespace", f"{OTHER}/half-ready", f"dig +short +search {name}", expected))
    checks.append(Check("labs, other namespace", f"{OTHER}/half-ready", "dig +short +search echo-service", []))
    return checks


def run_checks(checks, seconds=20):
    """The checks that did not pass within `seconds`."""
    end = time.monotonic() + seconds
    left = checks
    while True:
        failed = []
        for pod in sorted({it.pod for it in left}):
            here = [it for it in left if it.pod == pod]
            namespace, _, name = pod.rpartition("/")
            outputs = in_pod(name, [it.shell for it in here], namespace or NAMESPACE)
            failed += [it for it, output in zip(here, outputs) if not it.passes(output)]
        left = failed
        if not left or time.monotonic() > end:
            return left


def changing_names(lodestone):
    """ExternalName that changes its target, then its type; a pod with a server and search list of its own."""
    checks = []
    name = f"dns-test-service-3.{NAMESPACE}.svc.cluster.local"

    def change(spec, rtype, expected):
        kubectl("patch", "service", "dns-test-service-3", "-n", NAMESPACE, "-p", json.dumps({"spec": spec}))
        expected = expected or get("service", "dns-test-service-3")["spec"]["clusterIP"]
        checks.append(Check("ExternalName", "dns-querier-1", f"dig +short {name} {rtype}", expected))
        failed.extend(run_checks(checks[-1:], 30))

    failed = []
    change({"externalName": "bar.example.com"}, "CNAME", "bar.example.com.")
    change({"type": "ClusterIP", "externalName": None, "ports": [{"name": "http", "port": 80}]}, "A", None)
    change(
        {"type": "ExternalName", "externalName": "foo.example.com", "clusterIP": None, "clusterIPs": None},
        "CNAME",
        "foo.example.com.",
    )
    text = ". {\n    hosts {\n        192.0.2.123 notexistname.resolv.conf.local\n    }\n}\n"
    spec = {
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "c", "configMap": {"name": "own-server"}}],
        "containers": [
            {
                "name": "c",
                "image": lodestone,
                "imagePullPolicy": "IfNotPresent",
                "args": ["-conf", "/etc/coredns/Corefile"],
                "volumeMounts": [{"name": "c", "mountPath": "/etc/coredns"}],
                "securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}},
            }
        ],
        "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]},
    }
    apply(
        {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "own-server", "namespace": NAMESPACE},
            "data": {"Corefile": text},
        }
    )
    apply({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "own-server", "namespace": NAMESPACE}, "spec": spec})
    kubectl("wait", "-n", NAMESPACE, "pod/own-server", "--for=condition=Ready", "--timeout=90s")
    own = {
        "dnsPolicy": "None",
        "dnsConfig": {
            "nameservers": [get("pod", "own-server")["status"]["podIP"]],
            "searches": ["resolv.conf.local"],
            "options": [{"name": "ndots", "value": "2"}],
        },
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"name": "c", "image": TOOLS, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000000"]}
        ],
    }
    apply({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "own-config", "namespace": NAMESPACE}, "spec": own})
    kubectl("wait", "-n", NAMESPACE, "pod/own-config", "--for=condition=Ready", "--timeout=90s")
    checks.append(Check("own resolv.conf", "own-config", "dig +short +search notexistname", "192.0.2.123"))
    checks.append(Check("own resolv.conf", "own-config", "awk '/ndots:2/ {print $1}' /etc/resolv.conf", "options"))
    failed.extend(run_checks(checks[-2:], 30))
    kubectl("delete", "pod", "own-server", "own-config", "-n", NAMESPACE, "--now", "--wait=false")
    return checks, failed
