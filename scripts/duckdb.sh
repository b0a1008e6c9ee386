#!/usr/bin/env bash
# DuckDB, pinned by hash, in a Python environment of its own under target/: the second opinion on what queries answer.
# Installs it when missing, from PyPI, and prints the environment's Python. Safe to call at any time and from several
# processes.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=2.0.0
readonly venv=$PWD/target/duckdb-$version
# CPython 3.11, and 3.12 or newer; x86_64 and aarch64.
readonly hashes="
  5a3601121c7cc50d0b70412995634682fafcb58a0156d5d663dfd0b3bbe30a33
  bcdf10dfbc2c1a6bdc5b2a94bba5b15481e552c5745c2af1994617b0eb6bc750
  ab51ec57d329d6f3df37c0287b55d71c3fc07bb54b61d1afed09104f953b1431
  e38daf0acbad9de7ce892d402b68409519291ee16af3c2cba85ace3b085c7eaa"

fail() {
  printf 'duckdb.sh: %s\n' "$*" >&2
  exit 1
}

# The mark is made last: an environment that a crash left half made is made again.
if [ ! -e "$venv/complete" ]; then
  command -v python3 >/dev/null || fail "needs python3 with venv (Debian: apt-get install python3-venv)"
  mkdir -p target
  exec 9>"$venv.lock"
  flock 9
  if [ ! -e "$venv/complete" ]; then
    python3 -m venv --clear "$venv" >&2 || fail "python3 cannot make an environment (Debian: apt-get install python3-venv)"
    { printf 'duckdb==%s' "$version"; for hash in $hashes; do printf ' --hash=sha256:%s' "$hash"; done; echo; } >"$venv/requirements.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
      -r "$venv/requirements.txt" >&2 \
      || fail "cannot install duckdb $version from PyPI: see above. It needs a network and CPython 3.11 or newer on x86_64 or aarch64"
    [ "$("$venv/bin/python" -c 'import duckdb; print(duckdb.__version__)')" = "$version" ] \
      || fail "$venv does not hold duckdb $version; delete it and try again"
    touch "$venv/complete"
  fi
fi
echo "$venv/bin/python"
