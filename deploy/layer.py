#!/usr/bin/env python3
"""Writes the one layer of the image and its SBOM: layer.py BINARY CA_BUNDLE TARGET LAYER SBOM, called by image.sh.

The bytes depend on the input and on SOURCE_DATE_EPOCH only, not on the user, the directory or the version of tar. No
root is needed for the capability of the file, which is a header here.
"""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])


def main():
    binary, authorities, target, layer, sbom = sys.argv[1:]
    bill = json.dumps(bill_of_materials(target), indent=1, ensure_ascii=False).encode() + b"\n"
    Path(sbom).write_bytes(bill)
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for directory in ("etc", "etc/ssl", "etc/ssl/certs"):
            add(archive, directory, None, 0o755)
        # Where rustls-native-certs, as OpenSSL, looks for them: the roots of tls:// and https:// upstreams.
        add(archive, "etc/ssl/certs/ca-certificates.crt", Path(authorities).read_bytes(), 0o644)
        add(archive, "lodestone", Path(binary).read_bytes(), 0o755, net_bind_service())
        # Scanners of images look for files of this name.
        add(archive, "lodestone.cdx.json", bill, 0o644)


def add(archive, name, content, mode, attributes=None):
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = mode, EPOCH
    if content is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(content)
    member.pax_headers = attributes or {}
    archive.addfile(member, None if content is None else io.BytesIO(content))


def net_bind_service():
    """`setcap cap_net_bind_service=p`: struct vfs_cap_data of linux/capability.h. Why not `ep`: Containerfile."""
    revision, net_bind_service = 0x02000000, 1 << 10
    words = (revision, net_bind_service, 0, 0, 0)  # permitted and inheritable, low half and high half
    value = b"".join(word.to_bytes(4, "little") for word in words)
    return {"SCHILY.xattr.security.capability": value.decode("ascii")}


def bill_of_materials(target):
    """CycloneDX 1.5: the crates that are linked into the program, without those that run only during its build."""
    metadata = json.loads(output("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}

    # Of `metadata`, the graph is larger: it has features that only the tests need.
    tree = ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", " {p}"]
    edges, path = {}, []
    for line in output("cargo", "tree", "--locked", "--target", target, *tree).splitlines():
        depth, name, version = line.split()[:3]
        here = (name, version.removeprefix("v"))
        edges.setdefault(here, set())
        path[int(depth) :] = [here]
        if len(path) > 1:
            edges[path[-2]].add(here)
    root = path[0]

    checksums = {
        (name, version): checksum
        for name, version, checksum in re.findall(
            r'name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"', (ROOT / "Cargo.lock").read_text()
        )
    }

    def component(crate, kind="library"):
        reference = purl(crate)
        entry = {"type": kind, "bom-ref": reference, "name": crate[0], "version": crate[1], "purl": reference}
        if packages[crate]["license"]:
            # Older crates write a slash for OR.
            entry["licenses"] = [{"expression": packages[crate]["license"].replace("/", " OR ")}]
        if crate in checksums:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksums[crate]}]
        return entry

    others = sorted(edges.keys() - {root})
    runtime = rust_runtime(target)
    dependencies = [
        {"ref": purl(crate), "dependsOn": [purl(each) for each in sorted(edges[crate])]} for crate in [root, *others]
    ]
    dependencies[0]["dependsOn"] += [entry["bom-ref"] for entry in runtime]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
            "component": component(root, "application"),
        },
        "components": [component(crate) for crate in others] + runtime,
        "dependencies": dependencies,
    }


def purl(crate):
    name, version = crate
    return f"pkg:cargo/{name}@{version.replace('+', '%2B')}"


def rust_runtime(target):
    """What no crate names: Rust's standard library, and the musl that comes with it."""
    version = output("rustc", "--version").split()[1]
    entries = [{"type": "library", "bom-ref": f"rust-std@{version}", "name": "rust-std", "version": version}]
    directory = output("rustc", "--print", "target-libdir", "--target", target).strip()
    archive = Path(directory) / "self-contained/libc.a"
    musl = archive.exists() and re.search(rb"\0(1\.\d+\.\d+)\0", archive.read_bytes())
    if musl:
        version = musl[1].decode()
        entries.append({"type": "library", "bom-ref": f"musl@{version}", "name": "musl", "version": version})
    return entries


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
