#!/usr/bin/env bash
# Checks every Nexmark query over EVENTS events (default: a million, 100 s of event time) against DuckDB: at parallelism 1, 2 and 4,
# in order and shuffled by 4 s. Prints a line per run. Takes about a quarter of an hour and some gigabytes in target/tmp.
set -euo pipefail
cd "$(dirname "$0")/.."
events=${1:-1000000}
[[ "$events" =~ ^[0-9]+$ ]] || { echo "usage: scripts/nexmark.sh [EVENTS]" >&2; exit 2; }
scripts/duckdb.sh >/dev/null
RINGFLOW_TEST_NEXMARK_EVENTS=$events RINGFLOW_TEST_DUCKDB=required \
  exec cargo test --release --test pipeline -- --exact duckdb::jobs_agree_with_duckdb_whatever_the_order_of_events --nocapture
