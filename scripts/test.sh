#!/usr/bin/env bash
# Runs every test of ringflow against a real Kafka broker and DuckDB's answers; installs and fetches what the tests need.
# Arguments go to `cargo test` (default: the whole workspace). Both are promised here: a test that cannot have them fails.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
command -v cc >/dev/null && command -v make >/dev/null || packages+=(build-essential)
python3 -c "import venv, ensurepip" 2>/dev/null || packages+=(python3 python3-venv)
command -v perl >/dev/null || packages+=(perl)
# Small, and without them tests of system calls and of sends between hosts are skipped.
command -v strace >/dev/null || packages+=(strace)
command -v ip >/dev/null || packages+=(iproute2)
if [ ${#packages[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || { echo "test.sh: needs ${packages[*]}; install them or run as root" >&2; exit 1; }
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
fi
command -v cargo >/dev/null || { echo "test.sh: needs Rust 1.95 or newer (rustup.rs)" >&2; exit 1; }

# The downloads and the build have nothing to do with each other.
scripts/kafka.sh fetch >/dev/null &
fetch=$!
scripts/duckdb.sh >/dev/null &
duckdb=$!
cargo test --workspace --no-run
wait "$fetch" || { echo "test.sh: no Kafka broker, and the tests need one" >&2; exit 1; }
wait "$duckdb" || { echo "test.sh: no DuckDB, and the tests need it" >&2; exit 1; }

export RINGFLOW_TEST_KAFKA=required RINGFLOW_TEST_DUCKDB=required
if [ $# -gt 0 ]; then exec cargo test "$@"; fi
exec cargo test --workspace --no-fail-fast
