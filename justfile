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

# The studio as somebody uses it, and under load; needs Node and Chromium.
studio:
    npm ci --silent --prefix crates/imagen-server/tests/browser
    node crates/imagen-server/tests/browser/studio.mjs
    node crates/imagen-server/tests/load/load.mjs --requests 2000 --streams 100 --kills 5

# A device against the CPU: operations, goldens, pictures, training; see the script for others than `webgpu`.
gpu-check device="webgpu":
    tools/gpu-check {{device}}

# Licences and advisories of the dependencies; needs cargo-deny and the network.
deny:
    cargo deny check

# Packages for those without a compiler: archive, Debian package, wheel, checksums, in target/packages.
dist:
    tools/dist.sh

# The module for Python: packed from the release build, installed into target/venv, tested.
python:
    python3 -m venv target/venv
    target/venv/bin/pip install --quiet maturin mypy numpy pillow pytest
    PATH="$PWD/target/venv/bin:$PATH" maturin build --release --out target/wheels
    target/venv/bin/pip install --force-reinstall --no-deps target/wheels/imagen_rs-*.whl
    target/venv/bin/pytest

# Training by ranks as processes, under mpirun; needs openmpi-bin, libopenmpi-dev and libclang-dev.
mpi:
    cargo test --release -p imagen-cli --features mpi --test it -- ranks shares
