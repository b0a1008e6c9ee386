#!/usr/bin/env bash
# Writes what scripts/verify.sh would complain about, where a tool can.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/gen_schemas.sh
cargo fmt --all
cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
