"""Clusters: one that is made here, and one that is there."""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from images import TOOLS, pack
from shell import Problem, command, end_with_parent, skip, wait_for

PAUSE = "localhost/lodestone-e2e-pause:1"
SLUG = "lodestone-e2e-"

# Program: how to get it on Debian, or from where.
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "kubectl": "kubernetes-client (or https://kubernetes.io/docs/tasks/tools/)",
    "openssl": "openssl",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "cc": "gcc libc6-dev",
    "busybox": "busybox-static",
    "dig": "bind9-dnsutils",
    "ldd": "libc-bin",
    "getent": "libc-bin",
}
KUBERNETES = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
CNI = ["ptp", "host-local", "loopback", "portmap"]


class Local:
    """A cluster of one node from programs of this machine, in network, mount and PID namespaces of its own: they end,
    with every process, mount and interface in them, when their first process ends. Outside remain a directory and
    cgroups, which `down` removes."""

    name = "one node, made by this script"
    can = {"api", "kill", "outside"}

    def __init__(self, options):
        self.bin = Path(options.kubernetes_bin)
        self.cni = Path(options.cni_bin)
        self.proxy_mode = options.proxy_mode
        self.snapshotter = options.snapshotter
        self.children = {}
        self.home = self.first = self.inside = None
        missing = [f"{it}: apt-get install {PACKAGES[it]}" for it in PACKAGES if not shutil.which(it)]
        missing += [
            f"{it}: not in {self.bin}; set KUBERNETES_BIN to a directory with it (https://dl.k8s.io/v1.36.3/bin/linux/"
            f"ARCHITECTURE/{it}, or build cmd/{it} of k8s.io/kubernetes)"
            for it in KUBERNETES
            if not os.access(self.bin / it, os.X_OK)
        ]
        missing += [
            f"CNI plugin {it}: not in {self.cni}; apt-get install containernetworking-plugins, or set CNI_BIN"
            for it in CNI
            if not os.access(self.cni / it, os.X_OK)
        ]
        if os.geteuid():
            missing.append("root: namespaces, mounts and cgroups need it; use sudo")
        if missing:
            raise Problem("a cluster cannot be made here. Missing:\n  " + "\n  ".join(missing))

    # -- life --

    def up(self):
        self.remove_remains()
        self.home = Path(tempfile.mkdtemp(prefix=f"{SLUG}{os.getpid()}-", dir="/var/tmp"))
        for folder in ("pki", "log", "cni", "kubelet", "manifests", "sysctl", "containerd"):
            (self.home / folder).mkdir()
        (self.home / "log" / "pods").mkdir()
        self.cgroup = f"{SLUG}{os.getpid()}"
        self.make_cgroups()
        self.enter_namespaces()
        self.certificates()
        self.control_plane()
        self.node()

    @staticmethod
    def remove_remains():
        """Directories and cgroups of a run that was killed."""
        for path in [*Path("/var/tmp").glob(SLUG + "*"), *cgroups(SLUG + "*")]:
            process = path.name[len(SLUG) :].split("-")[0]
            if process.isdigit() and not Path(f"/proc/{process}").exists():
                remove_tree(path)

    def make_cgroups(self):
        if Path("/sys/fs/cgroup/cgroup.controllers").exists():
            parents = [Path("/sys/fs/cgroup")]
        else:
            parents = [it for it in Path("/sys/fs/cgroup").iterdir() if (it / "cgroup.procs").exists()]
        for parent in parents:
            path = parent / self.cgroup
            path.mkdir(exist_ok=True)
            for value in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of version 1, which admits no process
                if (path / value).exists() and not (path / value).read_text().strip():
                    (path / value).write_text((parent / value).read_text() if (parent / value).exists() else "")

    def enter_namespaces(self):
        # What the kubelet would set for the whole machine. It does not if it reads what it wants.
        values = {
            "vm/overcommit_memory": 1,
            "vm/panic_on_oom": 0,
            "kernel/panic": 10,
            "kernel/panic_on_oops": 1,
            "kernel/keys/root_maxkeys": 1000000,
            "kernel/keys/root_maxbytes": 25000000,
        }
        binds = ""
        for path, value in values.items():
            copy = self.home / "sysctl" / path.replace("/", ".")
            copy.write_text(f"{value}\n")
            binds += f"mount --bind {copy} /proc/sys/{path}\n"
        ready = self.home / "ready"
        first = f"""set -e
mount --make-rshared /
for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 none $folder; done
mkdir -p /run/lock /var/log/pods /var/log/containers /var/lib/cni
mount --bind {self.home}/log/pods /var/log/pods
{binds}ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip link set eth0 up
ip address add 172.30.0.2/24 dev eth0
ip address add 172.30.0.1/24 dev eth0
ip address add fd00:172:30::2/64 dev eth0 nodad 2>/dev/null || true
ip route add default dev eth0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding || true
touch {ready}
while :; do sleep 3600 & wait; done"""
        words = "unshare --net --mount --uts --ipc --pid --fork --kill-child=KILL --mount-proc".split()
        log = open(self.home / "log" / "namespaces", "wb")
        self.first = subprocess.Popen(
            [*words, "sh", "-c", first], stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent
        )

        def entered():
            if self.first.poll() is not None:
                raise Problem("namespaces: " + (self.home / "log" / "namespaces").read_text())
            return ready.exists()

        wait_for("namespaces", entered)
        self.inside = child_of(self.first.pid)
        self.dual = "fd00:172:30::2" in self.inner("ip", "-6", "address", "show", "dev", "eth0")

    def down(self):
        if self.first:
            # A first process is gone when all others of its PID namespace are.
            if self.first.poll() is None:
                if self.inside:
                    os.kill(self.inside, signal.SIGKILL)
                else:
                    self.first.kill()
            self.first.wait()
            for child in self.children.values():
                child.kill()
                child.wait()
        if self.home:
            for path in cgroups(self.cgroup):
                remove_tree(path)
            remove_tree(self.home)

    def keep_pod_logs(self):
        """The kubelet removes logs with their pods; a second link to those of DNS keeps them for --logs."""
        for log in (self.home / "log" / "pods").glob("kube-system_*/*/*.log"):
            kept = self.home / "log" / "dns" / "_".join(log.relative_to(self.home / "log" / "pods").parts)
            kept.parent.mkdir(exist_ok=True)
            if not kept.exists() and log.exists():
                os.link(log, kept)

    def nsenter(self, *words):
        return ["nsenter", "-t", str(self.inside), "-n", "-m", "-p", "-u", "-i", "--", *map(str, words)]

    def inner(self, *words, **options):
        """The output of a command in the namespaces, which are those of the node."""
        return command(self.nsenter(*words), **options)

    def start(self, name, *words):
        log = open(self.home / "log" / name, "ab")
        self.children[name] = subprocess.Popen(
            self.nsenter(*words),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
            cwd=self.home,
        )

    def kill(self, name):
        os.kill(child_of(self.children[name].pid), signal.SIGKILL)
        self.children.pop(name).wait()

    def await_answer(self, what, condition, seconds=120):
        """Like wait_for, with the end of the log of each process that has ended."""
        try:
            return wait_for(what, condition, seconds)
        except Problem as problem:
            ended = [it for it, child in self.children.items() if child.poll() is not None]
            tails = [f"{it} has ended:\n{(self.home / 'log' / it).read_text()[-1500:]}" for it in ended]
            raise Problem("\n".join([str(problem), *tails])) from None

    # -- parts --

    def certificates(self):
        pki = self.home / "pki"
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "node1"]
        sans = [f"DNS:{it}" for it in names] + [f"IP:{it}" for it in ("127.0.0.1", "172.30.0.2", "10.96.0.1")]
        (pki / "extensions").write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\n"
            f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={','.join(sans)}\n"
        )
        openssl = lambda words: command(["openssl", *words.split()], cwd=pki)  # noqa: E731
        openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kubernetes -keyout ca.key -out ca.crt")
        openssl("genrsa -out sa.key 2048")
        openssl("rsa -in sa.key -pubout -out sa.pub")
        users = {
            "apiserver": "/CN=kube-apiserver",
            "admin": "/O=system:masters/CN=admin",
            "controller-manager": "/CN=system:kube-controller-manager",
            "scheduler": "/CN=system:kube-scheduler",
            "kubelet": "/O=system:nodes/CN=system:node:node1",
            "proxy": "/CN=system:kube-proxy",
        }
        for name, subject in users.items():
            openssl(f"req -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.csr")
            openssl(
                f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions "
                f"-out {name}.crt"
            )
            data = lambda file: base64.b64encode((pki / file).read_bytes()).decode()  # noqa: E731
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": "https://172.30.0.2:6443", "certificate-authority-data": data("ca.crt")},
                    }
                ],
                "users": [
                    {
                        "name": "u",
                        "user": {
                            "client-certificate-data": data(f"{name}.crt"),
                            "client-key-data": data(f"{name}.key"),
                        },
                    }
                ],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
            (self.home / f"{name}.conf").write_text(json.dumps(config))

    def kubectl(self):
        return self.nsenter("kubectl", "--kubeconfig", self.home / "admin.conf")

    def helm(self):
        return self.nsenter("helm", "--kubeconfig", self.home / "admin.conf")

    def is_ready(self):
        words = [*self.kubectl(), "get", "--raw", "/readyz"]
        return subprocess.run(words, capture_output=True).returncode == 0

    def ranges(self, *pairs):
        """`first,second` of dual-stack, else `first`."""
        return ",".join(pairs if self.dual else pairs[:1])

    def control_plane(self):
        home = self.home
        local = "http://127.0.0.1:2379"
        # The data are not worth a sync of the disk.
        etcd = (
            f"etcd --data-dir {home}/etcd --listen-client-urls {local} --advertise-client-urls {local} "
            "--listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync"
        )
        self.start("etcd", *etcd.split())
        self.start_api()

    def start_api(self):
        home, pki = self.home, self.home / "pki"
        words = (
            f"--etcd-servers=http://127.0.0.1:2379 --advertise-address=172.30.0.2 --secure-port=6443 "
            f"--kubelet-preferred-address-types=InternalIP --tls-cert-file={pki}/apiserver.crt "
            f"--tls-private-key-file={pki}/apiserver.key --client-ca-file={pki}/ca.crt "
            f"--kubelet-client-certificate={pki}/admin.crt --kubelet-client-key={pki}/admin.key "
            f"--service-account-key-file={pki}/sa.pub --service-account-signing-key-file={pki}/sa.key "
            f"--service-account-issuer=https://kubernetes.default.svc --authorization-mode=Node,RBAC "
            f"--service-cluster-ip-range={self.ranges('10.96.0.0/16', 'fd00:10:96::/112')} --allow-privileged=true"
        )
        self.start("apiserver", self.bin / "kube-apiserver", *words.split())
        self.await_answer("the API server", self.is_ready)
        manager = (
            f"--kubeconfig={home}/controller-manager.conf --service-account-private-key-file={home}/pki/sa.key "
            f"--root-ca-file={home}/pki/ca.crt --use-service-account-credentials=true --leader-elect=false "
            f"--allocate-node-cidrs=true --cluster-cidr={self.ranges('10.244.0.0/16', 'fd00:10:244::/56')}"
        )
        self.start("controller-manager", self.bin / "kube-controller-manager", *manager.split())
        self.start(
            "scheduler", self.bin / "kube-scheduler", f"--kubeconfig={home}/scheduler.conf", "--leader-elect=false"
        )

    def stop_api(self):
        """Kills the API server. The controllers end too, as they do by themselves when they lose their leases in a
        cluster of kubeadm; else they would take the node for dead once the API server is back."""
        for name in ("controller-manager", "scheduler", "apiserver"):
            self.kill(name)

    def node(self):
        home = self.home
        (home / "containerd.toml").write_text(
            f"""version = 2
root = "{home}/containerd/root"
state = "{home}/containerd/state"
[grpc]
  address = "{home}/containerd/sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{self.cni}"
    conf_dir = "{home}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{self.snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
        )
        subnets, routes = [[{"subnet": "10.244.0.0/24"}]], [{"dst": "0.0.0.0/0"}]
        if self.dual:
            subnets.append([{"subnet": "fd00:10:244::/64"}])
            routes.append({"dst": "::/0"})
        # Routed, not bridged: a reply of a pod to another then passes connection tracking without br_netfilter.
        plugins = [
            {"type": "ptp", "ipMasq": True, "ipam": {"type": "host-local", "ranges": subnets, "routes": routes}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        network = {"cniVersion": "0.4.0", "name": "lodestone-e2e", "plugins": plugins}
        (home / "cni" / "10-e2e.conflist").write_text(json.dumps(network))
        self.start("containerd", "containerd", "-c", home / "containerd.toml")
        self.await_answer(
            "containerd",
            lambda: subprocess.run(self.nsenter(*self.ctr(), "version"), capture_output=True).returncode == 0,
        )
        (home / "resolv.conf").write_text("nameserver 172.30.0.1\n")
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{home}/pki/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{home}/resolv.conf",
            "containerRuntimeEndpoint": f"unix://{home}/containerd/sock",
            "staticPodPath": f"{home}/manifests",
            "volumePluginDir": f"{home}/volumeplugins",
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "imagefs.available": "0%",
                "nodefs.inodesFree": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "containerLogMaxSize": "200Mi",
            "tlsCertFile": f"{home}/pki/kubelet.crt",
            "tlsPrivateKeyFile": f"{home}/pki/kubelet.key",
        }
        (home / "kubelet.json").write_text(json.dumps(kubelet))
        self.start_kubelet = lambda: self.start(
            "kubelet",
            self.bin / "kubelet",
            f"--config={home}/kubelet.json",
            f"--kubeconfig={home}/kubelet.conf",
            f"--root-dir={home}/kubelet",
            "--hostname-override=node1",
            f"--node-ip={self.ranges('172.30.0.2', 'fd00:172:30::2')}",
        )
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": f"{home}/proxy.conf"},
            "clusterCIDR": self.ranges("10.244.0.0/16", "fd00:10:244::/56"),
            "mode": self.proxy_mode,
            "hostnameOverride": "node1",
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        (home / "proxy.json").write_text(json.dumps(proxy))
        self.start("proxy", self.bin / "kube-proxy", f"--config={home}/proxy.json")

    def ctr(self):
        return ["ctr", "-a", str(self.home / "containerd" / "sock"), "-n", "k8s.io"]

    def ctr_inside(self, *words):
        return self.nsenter(*self.ctr(), *words)

    def load_images(self, tars, static):
        for tar in [*tars, pack(PAUSE, self.home / "pause.tar", ["/probe", "hold"], [(static, "/probe")])]:
            self.inner(*self.ctr(), "images", "import", tar)
        shutil.copy(static, self.home / "probe")
        self.start("upstream", self.home / "probe", "serve", "172.30.0.1")
        self.start_kubelet()
        self.await_answer("the node", lambda: " Ready " in command([*self.kubectl(), "get", "nodes", "--no-headers"]))

    def describe(self):
        runtime = command(["containerd", "--version"]).split()[2]
        stack = "dual-stack" if self.dual else "IPv4"
        return f"one node, containerd {runtime}, kube-proxy with {self.proxy_mode}, {stack}"


class Foreign:
    """A cluster that is there, by its kubeconfig. With the name of a kind cluster, also what needs the node."""

    def __init__(self, options):
        self.config, self.kind = options.kubeconfig, options.kind
        self.can = {"api", "kill"} if self.kind else set()
        self.name = f"kubeconfig {self.config}" + (f", kind {self.kind}" if self.kind else "")
        needed = ["kubectl", "cc", "busybox", "dig", "ldd", "getent"]
        missing = [f"{it}: apt-get install {PACKAGES[it]}" for it in needed if not shutil.which(it)]
        missing += [
            f"{it}: see https://kind.sigs.k8s.io" for it in ("kind", "docker") if self.kind and not shutil.which(it)
        ]
        if missing:
            raise Problem("missing:\n  " + "\n  ".join(missing))
        self.node = f"{self.kind}-control-plane"

    def up(self):
        pass

    def down(self):
        pass

    def keep_pod_logs(self):
        pass

    def kubectl(self):
        return ["kubectl", "--kubeconfig", self.config]

    def helm(self):
        return ["helm", "--kubeconfig", self.config]

    def is_ready(self):
        return subprocess.run([*self.kubectl(), "get", "--raw", "/readyz"], capture_output=True).returncode == 0

    def load_images(self, tars, _static):
        if not self.kind:
            skip("import of images", f"no --kind: the nodes need {TOOLS} and the image of Lodestone already")
            return
        for tar in tars:
            command(["kind", "load", "image-archive", tar, "--name", self.kind])

    def ctr_inside(self, *words):
        return ["docker", "exec", self.node, "ctr", "-n", "k8s.io", *words]

    def stop_api(self):
        # The kubelet of the node runs what is in the folder.
        command(
            ["docker", "exec", self.node, "mv", "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/"]
        )
        wait_for("the end of the API server", lambda: not self.is_ready(), 60)

    def start_api(self):
        command(
            ["docker", "exec", self.node, "mv", "/etc/kubernetes/kube-apiserver.yaml", "/etc/kubernetes/manifests/"]
        )

    def describe(self):
        return self.name


def cgroups(pattern):
    root = Path("/sys/fs/cgroup")
    return [*root.glob(pattern), *root.glob(f"*/{pattern}")]


def child_of(process):
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    if not found:
        raise Problem(f"process {process} has no child")
    return int(found[0])


def remove_tree(path):
    """Removes a directory; of cgroups, whose files cannot be removed, the directories."""
    if path.is_relative_to("/sys") if hasattr(path, "is_relative_to") else str(path).startswith("/sys/"):
        for folder, _, _ in os.walk(path, topdown=False):
            wait_for(f"the end of the processes in {folder}", lambda: remove_folder(folder), 20)
    else:
        shutil.rmtree(path, ignore_errors=True)


def remove_folder(folder):
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
