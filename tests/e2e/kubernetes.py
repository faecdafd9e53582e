"""Objects of the cluster under test, and commands in its pods."""

import json
import subprocess
import time

from shell import Problem, command, wait_for

NAMESPACE = "lodestone-e2e"
OTHER = "lodestone-e2e-payroll"

# Local or Foreign of clusters.py; set once, by ./run.
cluster = None


def kubectl(*words, text=None):
    return command([*cluster.kubectl(), *words], input=text)


def succeeds(*words, text=None):
    """Whether a command of kubectl does, for what is tried until it does."""
    return subprocess.run([*cluster.kubectl(), *words], input=text, text=True, capture_output=True).returncode == 0


def version():
    found = json.loads(kubectl("get", "--raw", "/version"))
    # Built without a version of its own, it has the number only.
    return f"{found['major']}.{found['minor']}" if "$" in found["gitVersion"] else found["gitVersion"]


def get(kind, name=None, namespace=NAMESPACE, selector=None):
    words = ["get", kind, *([name] if name else []), "-n", namespace, "-o", "json"]
    found = json.loads(kubectl(*words, *(["-l", selector] if selector else [])))
    return found if name else found["items"]


def system(*words, text=None):
    return kubectl("-n", "kube-system", *words, text=text)


def dns_pods():
    """Pods of the Deployment that are not being deleted."""
    pods = get("pods", namespace="kube-system", selector="k8s-app=kube-dns")
    return [it for it in pods if "deletionTimestamp" not in it["metadata"]]


def container(pod):
    """Status of the one container of a pod."""
    return (pod["status"].get("containerStatuses") or [{}])[0]


def settled(image=None):
    """Waits until the rollout is through, and old pods are gone."""
    system("rollout", "status", "deployment/coredns", "--timeout=180s")

    def through():
        pods = get("pods", namespace="kube-system", selector="k8s-app=kube-dns")
        return all("deletionTimestamp" not in it["metadata"] and container(it).get("ready") for it in pods) and pods

    pods = wait_for("the end of old pods", through, 120, 0.5)
    cluster.keep_pod_logs()
    for pod in pods:
        if image and image not in pod["spec"]["containers"][0]["image"]:
            raise Problem(f"{pod['metadata']['name']} runs {pod['spec']['containers'][0]['image']}, not {image}")


def patch(change):
    system("patch", "deployment", "coredns", "-p", json.dumps({"spec": {"template": {"spec": change}}}))


def set_probe(probe):
    every, failures = (1, 1) if probe == "second" else (10, 3)
    patch(
        {"containers": [{"name": "coredns", "readinessProbe": {"periodSeconds": every, "failureThreshold": failures}}]}
    )


def corefile():
    return get("configmap", "coredns", "kube-system")["data"]["Corefile"]


def set_corefile(text):
    """Replaces the Corefile in the ConfigMap, and lets the kubelet write it into the pods' volumes now: it does when a
    pod changes, else within a minute or two."""
    change = json.dumps({"data": {"Corefile": text}})
    system("patch", "configmap", "coredns", "--type", "merge", "-p", change)
    system("annotate", "pods", "-l", "k8s-app=kube-dns", f"lodestone-e2e={time.time()}", "--overwrite")


def in_pod(pod, commands, namespace=NAMESPACE):
    """Outputs of shell commands in a pod."""
    mark = "--end-of-output--"
    script = "".join(f"{{ {it}\n}} 2>&1; echo; echo {mark}\n" for it in commands)
    found = kubectl("exec", "-i", "-n", namespace, pod, "--", "sh", "-s", text=script)
    return [it.strip() for it in found.split(mark)[:-1]]


def in_container(pod, *words):
    """Output of a command in a pod without the API server; None if it fails."""
    identifier = container(pod)["containerID"].split("//")[1]
    words = cluster.ctr_inside("tasks", "exec", "--exec-id", f"e2e-{time.time_ns()}", identifier, *words)
    found = subprocess.run(words, capture_output=True, text=True)
    return None if found.returncode else found.stdout.strip()


def apply(thing):
    kubectl("apply", "-f", "-", text=json.dumps(thing))


def try_in_pod(shell):
    try:
        return in_pod("dns-querier-1", [shell])
    except Problem:
        return None
