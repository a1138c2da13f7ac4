# Everything that must hold before a change lands; `.ci/run` calls this.
check: fmt clippy test doc

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --release --workspace --all-targets -- -D warnings

test:
    cargo test --release --workspace

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

# Licences and advisories of the dependencies; needs cargo-deny and the network.
deny:
    cargo deny check
