#!/usr/bin/env bash
# Fuzzes what a peer can reach: decoders, connections, the credit protocol; every target for SECONDS, two at a time.
# A failure prints its input, made small, and the command that repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ "${1:-}" =~ ^[0-9]+$ ]] || { echo "usage: scripts/fuzz.sh SECONDS [TARGET]" >&2; exit 2; }
RINGFLOW_FUZZ_SECONDS=$1 exec cargo test --release -p ringflow-dataplane --lib "fuzz::${2:-}" -- \
  --nocapture --test-threads 2
