"""Images without a registry: programs of this machine, packed with their libraries."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from shell import Problem, command, skip

HERE = Path(__file__).resolve().parent
TOOLS = "localhost/lodestone-e2e-tools:1"


def libraries(program):
    """The libraries of a dynamic program, the dynamic linker included."""
    found = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return [path for path in re.findall(r"(/\S+) \(0x", found) if os.path.exists(path)]


def pack(name, out, entrypoint, files, links=()):
    """Writes an image that `ctr images import` and `kind load image-archive` read: `files` are (source, path)."""
    layer, seen = BytesIO(), set()
    with tarfile.open(fileobj=layer, mode="w") as tar:

        def folder(path):
            if path not in ("", "/") and path not in seen:
                folder(os.path.dirname(path))
                seen.add(path)
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "/tmp" else 0o755
                tar.addfile(entry)

        for path in ("/tmp", "/etc", "/var", "/run"):
            folder(path)
        for source, path in files:
            data = source if isinstance(source, bytes) else Path(source).resolve().read_bytes()
            if path not in seen:
                seen.add(path)
                folder(os.path.dirname(path))
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, BytesIO(data))
        for path, target in links:
            folder(os.path.dirname(path))
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    layer = layer.getvalue()
    digest = sha256(layer).hexdigest()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    config["config"] = {"Entrypoint": entrypoint, "Env": ["PATH=/bin:/usr/bin"]}
    config = json.dumps(config).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(out, "w") as tar:
        for path, data in (
            ("config.json", config),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, BytesIO(data))
    return out


def program_image(name, program, out):
    """An image of one program with its libraries."""
    files = [(program, f"/{Path(program).name}")] + [(it, it) for it in libraries(program)]
    return pack(name, out, [f"/{Path(program).name}"], files)


def name_in(tar):
    """The name of the image in a tar, as docker, podman, buildah or an OCI layout writes it."""
    with tarfile.open(tar) as archive:
        names = set(archive.getnames())
        if "manifest.json" in names:
            tags = json.load(archive.extractfile("manifest.json"))[0].get("RepoTags")
            if tags:
                return tags[0]
        if "index.json" in names:
            notes = json.load(archive.extractfile("index.json"))["manifests"][0].get("annotations", {})
            for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"):
                if ":" in notes.get(key, ""):
                    return notes[key]
    raise Problem(f"{tar}: no name of an image in it")


def compile_probe(folder):
    """probe.c for each C library: (static one for the load, {library: program})."""
    flags = ["-std=c11", "-O2", "-o"]
    found = {"glibc": folder / "probe-glibc"}
    command(["cc", *flags, found["glibc"], HERE / "probe.c"])
    static = folder / "probe"
    if shutil.which("musl-gcc"):
        command(["musl-gcc", "-static", *flags, static, HERE / "probe.c"])
        found["musl"] = static
    else:
        skip("resolver of musl", "musl-gcc is missing: apt-get install musl-tools")
        command(["cc", "-static", *flags, static, HERE / "probe.c"])
    return static, found


def tools_image(folder, static, probes):
    """busybox, dig, getent, and the probe for each C library."""
    files = [(static, "/bin/probe")]
    files += [(program, f"/bin/probe-{library}") for library, program in probes.items()]
    files += [(b"hosts: files dns\n", "/etc/nsswitch.conf")]
    programs = [probes["glibc"]] + [shutil.which(it) for it in ("busybox", "dig", "getent")]
    files += [(it, f"/bin/{Path(it).name}") for it in programs[1:]]
    for program in programs:
        for library in libraries(program):
            files.append((library, library))
            # Before glibc 2.34, the plugins of nsswitch.conf, which ldd does not name.
            beside = Path(library).parent
            if "libc.so" in library:
                files += [
                    (it, str(it)) for it in (beside / "libnss_dns.so.2", beside / "libnss_files.so.2") if it.exists()
                ]
                files += [(it, str(it)) for it in [beside / "libresolv.so.2"] if it.exists()]
    applets = [
        "sh",
        "sleep",
        "cat",
        "true",
        "false",
        "echo",
        "mkdir",
        "httpd",
        "nslookup",
        "hostname",
        "sort",
        "awk",
        "ls",
    ]
    links = [(f"/bin/{it}", "busybox") for it in applets]
    return pack(TOOLS, folder / "tools.tar", ["/bin/sh"], files, links)


def image_of(given, name, folder):
    """(name of the image, tar or None) of a program, a tar or a name."""
    if not given or not os.path.exists(given):
        if given and "/" in given and ":" in given.rsplit("/", 1)[1]:
            return given, None
        raise Problem(
            f"{given}: neither a program, nor a tar, nor the name of an image; build it with `cargo build --release`, "
            f"or set {name.upper()}"
        )
    if tarfile.is_tarfile(given):
        return name_in(given), given
    return f"localhost/{name}:e2e", program_image(f"localhost/{name}:e2e", given, folder / f"{name}.tar")
