#!/usr/bin/env bash
# Builds the image on this machine, without a registry: a static binary, CA certificates and a list of the crates
# in it. The same commit, toolchain and C compiler give the same image in any directory. See docs/image.md.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
Usage: deploy/image.sh [-a ARCH] [-t NAME:TAG] [-b BUILDER]
  -a  amd64 or arm64; default: this machine's
  -t  name in the archive; default: localhost/lodestone:VERSION
  -b  buildah, podman, docker, or none for the files only; default: the first that is installed
Writes target/image/ARCH/lodestone.tar (docker load, podman load, ctr images import, kind load image-archive).
Environment: SOURCE_DATE_EPOCH and LODESTONE_REVISION, by default of the last commit; CA_BUNDLE, a PEM file;
CC_x86_64_unknown_linux_musl and CC_aarch64_unknown_linux_musl, C compilers that use the headers of musl.
TEXT
}

arch='' tag='' builder=''
while getopts a:t:b:h option; do
    case $option in
        a) arch=$OPTARG ;;
        t) tag=$OPTARG ;;
        b) builder=$OPTARG ;;
        h) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -gt 0 ]; then usage >&2; exit 2; fi

machine=$(uname -m)
case ${arch:-$machine} in
    amd64 | x86_64) arch=amd64 cpu=x86_64 ;;
    arm64 | aarch64) arch=arm64 cpu=aarch64 ;;
    *) echo "image.sh: no image for ${arch:-$machine}; use -a amd64 or -a arm64" >&2; exit 2 ;;
esac
target=$cpu-unknown-linux-musl
root=$PWD
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target_dir/image/$arch
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
tag=${tag:-localhost/lodestone:$version}

# Everything that is missing is listed at once, with the command that installs it.
missing=()
need() { # what, Debian, Fedora
    missing+=("$1"$'\n'"    Debian: $2"$'\n'"    Fedora: $3")
}

if ! command -v cargo >/dev/null; then
    need "Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml), with rustup" \
        "apt-get install rustup (Debian 12: https://rustup.rs), then rustup target add $target" \
        "dnf install rustup && rustup-init -y, then rustup target add $target"
elif ! [ -e "$(rustc --print target-libdir --target "$target")" ]; then
    need "Rust's standard library for $target" "rustup target add $target" "rustup target add $target"
fi
command -v make >/dev/null || need "make (for jemalloc)" "apt-get install make" "dnf install make"
command -v python3 >/dev/null || need "python3 (for the layer)" "apt-get install python3" "dnf install python3"
command -v cc >/dev/null || need "cc (for build scripts)" "apt-get install gcc libc6-dev" "dnf install gcc"

# ring and jemalloc are in C. The linker and the C library come with Rust, so only the compiler matters.
compiler=CC_${target//-/_}
cc=${!compiler:-}
if [ -z "$cc" ]; then
    cc=$cpu-linux-musl-gcc
    if ! command -v "$cc" >/dev/null && [ "$cpu" = "$machine" ]; then cc=musl-gcc; fi
fi
if ! command -v "${cc%% *}" >/dev/null || ! echo 'int main(void){return 0;}' | $cc -x c -c -o /dev/null - 2>/dev/null; then
    if [ "$cpu" = "$machine" ]; then
        need "a C compiler for $cpu with musl ($cc)" "apt-get install musl-tools" "dnf install musl-gcc"
    else
        need "a C compiler for $cpu with musl ($cc)" \
            "dpkg --add-architecture $arch && apt-get update && apt-get install gcc-$cpu-linux-gnu musl-dev:$arch" \
            "not packaged; set $compiler to one, or build on a machine of that architecture"
    fi
fi

if [ -z "$builder" ]; then
    for each in buildah podman docker; do
        if command -v "$each" >/dev/null; then builder=$each; break; fi
    done
    [ -n "$builder" ] || need "buildah, podman or docker" "apt-get install buildah" "dnf install buildah"
elif [ "$builder" != none ] && ! command -v "$builder" >/dev/null; then
    case $builder in
        buildah | podman) need "$builder" "apt-get install $builder" "dnf install $builder" ;;
        docker) need docker "apt-get install docker.io" "dnf install moby-engine" ;;
        *) echo "image.sh: no builder $builder; use -b buildah, podman, docker or none" >&2; exit 2 ;;
    esac
fi

authorities=${CA_BUNDLE:-}
if [ -z "$authorities" ]; then
    for each in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
        if [ -s "$each" ]; then authorities=$each; break; fi
    done
fi
[ -s "$authorities" ] || need "CA certificates (or CA_BUNDLE=FILE)" \
    "apt-get install ca-certificates" "dnf install ca-certificates"

if [ ${#missing[@]} -gt 0 ]; then
    echo "image.sh: missing:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi

if [ -z "${LODESTONE_REVISION:-}" ]; then
    LODESTONE_REVISION=$(git rev-parse HEAD 2>/dev/null || true)
    if [ -n "$LODESTONE_REVISION" ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then
        LODESTONE_REVISION+=-modified
    fi
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export LODESTONE_REVISION SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

context=$out/context
rm -rf "$context"
mkdir -p "$context"

# Paths in panics, the only ones in the program, become the same everywhere. They are given by a wrapper because
# cargo takes RUSTFLAGS into the names of files, by which the linker orders what it is given.
wrapper=$target_dir/image/rustc
cat >"$wrapper" <<WRAPPER
#!/bin/sh
exec "\$@" --remap-path-prefix='$root=/lodestone' --remap-path-prefix='$target_dir=/target' \
--remap-path-prefix='${CARGO_HOME:-$HOME/.cargo}=/cargo'
WRAPPER
chmod +x "$wrapper"

cflags="-ffile-prefix-map=$target_dir=/target -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
cargo_environment=(
    RUSTC_WRAPPER="$wrapper"
    RUSTFLAGS="-C linker=rust-lld -C linker-flavor=ld.lld -C link-self-contained=yes"
    CARGO_TARGET_DIR="$target_dir"
    "$compiler=$cc"
)
if [ "$arch" = arm64 ]; then
    # jemalloc refuses pages larger than it was built for, and arm64 kernels have pages of up to 64 KiB.
    cargo_environment+=(JEMALLOC_SYS_WITH_LG_PAGE=16)
    # The functions for these are in a libgcc for glibc (Debian's cross compiler), and cannot be linked with musl.
    cflags+=" -mno-outline-atomics"
fi
cargo_environment+=("CFLAGS_${target//-/_}=$cflags")
# Without symbols: a sixth of the file, and of use only with a backtrace.
env "${cargo_environment[@]}" cargo rustc --profile dist --locked --target "$target" --bin lodestone -- \
    -C link-arg=-Tlink/hot.ld -C strip=symbols -C link-arg=--pack-dyn-relocs=relr

deploy/layer.py "$target_dir/$target/dist/lodestone" "$authorities" "$target" "$context/rootfs.tar" "$out/lodestone.cdx.json"

arguments=(
    --build-arg VERSION="$version" --build-arg REVISION="$LODESTONE_REVISION" --build-arg CREATED="$created"
    --build-arg SOURCE="${LODESTONE_SOURCE:-}"
    --platform "linux/$arch" --file deploy/Containerfile --tag "$tag"
)
archive=$out/lodestone.tar
rm -f "$archive"
case $builder in
    none)
        echo "$context: build it, with the labels, by"
        printf '%q ' docker build "${arguments[@]}" "${context#"$root"/}"
        echo
        exit
        ;;
    docker)
        DOCKER_BUILDKIT=1 docker build "${arguments[@]}" --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$context"
        docker save --output "$archive" "$tag"
        ;;
    podman)
        podman build --timestamp "$SOURCE_DATE_EPOCH" --layers=false --identity-label=false "${arguments[@]}" "$context"
        podman save --format docker-archive --output "$archive" "$tag"
        ;;
    buildah)
        # Storage of its own: nothing is left behind, and neither overlay nor the user's images matter.
        storage=(--root "$out/storage" --runroot "$out/storage/run" --storage-driver vfs)
        remove_storage() {
            # Without root, the directories of layers are not writable.
            if [ -e "$out/storage" ]; then chmod -R u+w "$out/storage" && rm -rf "$out/storage"; fi
        }
        remove_storage
        buildah "${storage[@]}" build --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --layers=false \
            --identity-label=false "${arguments[@]}" "$context"
        buildah "${storage[@]}" push --quiet "$tag" "docker-archive:$archive:$tag"
        remove_storage
        ;;
esac

echo
echo "$archive: $tag for linux/$arch"
echo "  archive    sha256:$(sha256sum "$archive" | cut -d' ' -f1)  $(stat -c %s "$archive") bytes"
# The image ID: the digest of its configuration, which has the digest of the layer.
echo "  image ID   sha256:$(tar -xOf "$archive" manifest.json | sed 's/.*"Config":"\(sha256:\)\{0,1\}\([0-9a-f]\{64\}\).*/\2/')"
echo "  compressed $(gzip -9c "$context/rootfs.tar" | wc -c) bytes"
