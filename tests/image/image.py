#!/usr/bin/env python3
"""Runs the image in containers, as Kubernetes does, and queries it: tests/image/image.py [ARCHIVE].

ARCHIVE is what deploy/image.sh writes; without it, it is built. Each container is runc's, with a network namespace of
its own, a read-only root file system and no_new_privs (`allowPrivilegeEscalation: false`). Needs root, runc and dig.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 15_000_000  # bytes that a node pulls
NET_BIND_SERVICE = ["CAP_NET_BIND_SERVICE"]
OWN_USER = 65532
ADDRESS = "10.96.7.7"
COREFILE = """.:53 {
    errors
    health
    ready
    prometheus :9153
    kubernetes cluster.local {
        manifests /etc/coredns/manifests
    }
}
"""
MANIFEST = f"""apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: payroll }}
spec: {{ clusterIP: {ADDRESS}, clusterIPs: [{ADDRESS}], ports: [{{ name: http, port: 80 }}] }}
"""
NAME = "web.payroll.svc.cluster.local"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", nargs="?", type=Path)
    archive = parser.parse_args().archive
    for program in ("runc", "dig", "nsenter"):
        if not shutil.which(program):
            sys.exit(f"{program} is not installed (Debian: apt-get install runc bind9-dnsutils util-linux)")
    if os.geteuid() != 0:
        sys.exit("needs root, for users and network namespaces of containers")
    if archive is None:
        subprocess.run([ROOT / "deploy/image.sh"], check=True)
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        archive = target / {"x86_64": "image/amd64", "aarch64": "image/arm64"}[platform.machine()] / "lodestone.tar"

    with tempfile.TemporaryDirectory(prefix="lodestone-image-") as directory:
        image = Image(archive, Path(directory))
        image.check()
        for check in (coredns_deployment, no_capability_but_sysctl, root_with_one_capability, nothing_that_permits_port_53):
            check(image)
            print(f"ok    {check.__name__.replace('_', ' ')}")


def coredns_deployment(image):
    """CoreDNS's Deployment with another image: the capability, and the user of the image."""
    with image.container(image.user(), NET_BIND_SERVICE, unprivileged_from=1024) as container:
        container.serves()
        effective = container.status("CapEff")
        expect(int(effective, 16) == 1 << 10, f"effective capabilities {effective}")


def no_capability_but_sysctl(image):
    """No capability at all, and a pod's securityContext.sysctls."""
    with image.container(image.user(), [], unprivileged_from=53) as container:
        container.serves()
        effective = container.status("CapEff")
        expect(int(effective, 16) == 0, f"effective capabilities {effective}")


def root_with_one_capability(image):
    """`runAsUser: 0`, as in old manifests."""
    with image.container(0, NET_BIND_SERVICE, unprivileged_from=1024) as container:
        container.serves()


def nothing_that_permits_port_53(image):
    """Neither: the process starts, and says what is missing."""
    with image.container(image.user(), [], unprivileged_from=1024) as container:
        container.process.wait(timeout=10)
        log = container.log()
        for word in ("NET_BIND_SERVICE", "net.ipv4.ip_unprivileged_port_start"):
            expect(word in log, f"{word} is not in the log:\n{log}")


class Image:
    """An archive in Docker's format, unpacked."""

    def __init__(self, archive, directory):
        self.directory = directory
        self.root = directory / "root"
        self.root.mkdir()
        with tarfile.open(archive) as opened:
            read = lambda name: opened.extractfile(name).read()
            manifest = json.loads(read("manifest.json"))[0]
            self.configuration = json.loads(read(manifest["Config"]))
            layers = [read(name) for name in manifest["Layers"]]
        self.compressed = 0
        for layer in layers:
            command = ["gzip", "-9", "-c"]
            self.compressed += len(subprocess.run(command, input=layer, check=True, stdout=subprocess.PIPE).stdout)
            unpack = ["tar", "--xattrs", "--xattrs-include=security.capability", "-xf", "-", "-C", self.root]
            subprocess.run(unpack, input=layer, check=True)
        etc = directory / "etc"
        (etc / "manifests").mkdir(parents=True)
        (etc / "Corefile").write_text(COREFILE)
        (etc / "manifests/web.yaml").write_text(MANIFEST)
        directory.chmod(0o755)

    def user(self):
        return int(self.configuration["config"]["User"].split(":")[0])

    def check(self):
        config = self.configuration["config"]
        expect(config["User"] == f"{OWN_USER}:{OWN_USER}", config["User"])
        expect(config["Entrypoint"] == ["/lodestone"], config["Entrypoint"])
        expect("53/udp" in config["ExposedPorts"] and "53/tcp" in config["ExposedPorts"], config["ExposedPorts"])
        labels = config["Labels"]
        for word in ("title", "description", "source", "licenses", "version", "revision", "created"):
            expect(f"org.opencontainers.image.{word}" in labels, f"no label {word}")
        expect(labels["org.opencontainers.image.created"] == self.configuration["created"][:19] + "Z", labels)
        files = sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())
        expect(files == ["etc/ssl/certs/ca-certificates.crt", "lodestone", "lodestone.cdx.json"], files)
        json.loads((self.root / "lodestone.cdx.json").read_text())
        size = (self.root / "lodestone").stat().st_size
        print(f"      {self.compressed:,} bytes compressed, the program {size:,}")
        expect(self.compressed < LIMIT, f"{self.compressed:,} bytes compressed, of at most {LIMIT:,}")
        print("ok    user, ports, labels, files, size")

    @contextlib.contextmanager
    def container(self, user, capabilities, unprivileged_from):
        bundle = Path(tempfile.mkdtemp(dir=self.directory))
        entrypoint = self.configuration["config"]["Entrypoint"]
        mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}]
        mounts += [{"destination": "/etc/coredns", "type": "bind", "source": str(self.directory / "etc"), "options": ["bind", "ro"]}]
        specification = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": user, "gid": user},
                "args": [*entrypoint, "-conf", "/etc/coredns/Corefile"],
                "cwd": "/",
                "noNewPrivileges": True,
                # As containerd does for `add` with `drop: [ALL]`: none of them is inheritable or ambient.
                "capabilities": {name: capabilities for name in ("bounding", "effective", "permitted")},
            },
            "root": {"path": str(self.root), "readonly": True},
            "mounts": mounts,
            "linux": {
                "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
                "sysctl": {"net.ipv4.ip_unprivileged_port_start": str(unprivileged_from)},
            },
        }
        (bundle / "config.json").write_text(json.dumps(specification))
        name = f"lodestone-image-{os.getpid()}-{bundle.name}"
        command = ["runc", "--root", self.directory / "runc", "run", "--bundle", bundle, "--pid-file", bundle / "pid", name]
        with open(bundle / "log", "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield Container(process, bundle)
        except BaseException:
            sys.stderr.write((bundle / "log").read_text())
            raise
        finally:
            subprocess.run(["runc", "--root", self.directory / "runc", "kill", name, "KILL"], stderr=subprocess.DEVNULL)
            process.wait()


class Container:
    def __init__(self, process, bundle):
        self.process, self.bundle = process, bundle

    def serves(self):
        ready = ("http://127.0.0.1:8181/ready", "http://127.0.0.1:8080/health", "http://127.0.0.1:9153/metrics")
        deadline = time.monotonic() + 20
        while self.inside(GET, ready[0]) != "200":
            expect(self.process.poll() is None, "the container has ended")
            expect(time.monotonic() < deadline, "not ready after 20 s")
            time.sleep(0.05)
        for address in ready:
            got = self.inside(GET, address)
            expect(got == "200", f"{address}: {got}")
        for transport in ("+notcp", "+tcp"):
            got = self.inside(["dig", "@127.0.0.1", "-p", "53", "+short", "+tries=1", "+time=2", transport], NAME)
            expect(got == ADDRESS, f"{transport}: {got!r}")

    def inside(self, command, *words):
        """Its output, in the network of the container and with the files of this machine."""
        with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
            pid = (self.bundle / "pid").read_text()
            command = ["nsenter", f"--net=/proc/{pid}/ns/net", *command, *words]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
        return None

    def status(self, field):
        pid = (self.bundle / "pid").read_text()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))

    def log(self):
        return (self.bundle / "log").read_text()


# The status of an answer.
GET = [sys.executable, "-c", "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=2).status)"]


def expect(condition, what):
    if not condition:
        raise SystemExit(f"failed: {what}")


if __name__ == "__main__":
    main()
