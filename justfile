# `just` lists these. `just ci` is what a change has to pass; .ci/run runs the same on a bare machine.

_default:
    @just --list

# Everything that a change has to pass
ci: format lint features doc test deny

# Formatting is as rustfmt has it
format:
    cargo fmt --check

# Clippy finds nothing, in tests either
lint:
    cargo clippy --locked --all-targets -- -D warnings

# The smallest build does what it says; .ci/run has clippy look at it without each feature too
features:
    cargo clippy --locked --lib --bins --no-default-features -- -D warnings
    cargo test --locked --no-default-features --test features

# The documentation builds without a warning
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# All tests
test:
    cargo test --locked

# The tests of src/datagrams, the unsafe code, under AddressSanitizer
sanitize *ARGUMENTS:
    tests/sanitizer/run {{ARGUMENTS}}

# Licences, banned crates, sources and known faults of what is depended on
deny:
    cargo deny check

# A sample cluster, or your own manifests: just lab DIR
lab *ARGUMENTS:
    cargo run --release -- lab {{ARGUMENTS}}

# What a query costs here and in other servers, in turns: see docs/bench.md
bench *ARGUMENTS:
    cargo rustc --profile dist --locked --bin lodestone -- -C link-arg=-Tlink/hot.ld
    cargo build --profile dist --locked --example apiserver --example watch-cost
    python3 tests/bench/bench.py {{ARGUMENTS}}

# End to end on a real Kubernetes, which this makes: see tests/e2e/README.md
e2e *ARGUMENTS:
    cargo build --release
    tests/e2e/run {{ARGUMENTS}}

# Instructions of a query, against what they may be: --record writes them down anew
budget *ARGUMENTS:
    tests/bench/budget.py {{ARGUMENTS}}

# The container image, without a registry: just image -a arm64. See docs/image.md
image *ARGUMENTS:
    deploy/image.sh {{ARGUMENTS}}

# The image in containers, as Kubernetes runs them: needs root, runc, dig
image-test *ARGUMENTS:
    tests/image/image.py {{ARGUMENTS}}

# What kustomize renders from deploy/, against the API of three Kubernetes versions
manifests *VERSIONS:
    tests/deploy/validate {{VERSIONS}}
