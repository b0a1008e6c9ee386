#!/usr/bin/env bash
# The gate that only reads: formatting, lints, generated code, scripts, links in documentation. `scripts/fix.sh` writes what can be written.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
scripts/gen_schemas.sh --check
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
cargo clippy --workspace --all-targets -- -D warnings
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
echo "verify: all good"
