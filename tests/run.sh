#!/usr/bin/env bash
# Runs everything that must hold: format, lints, tests, doc tests, the checks by pyarrow and hf_xet, the proofs.
# Installs what is missing where it can (as root, with apt-get). Prints how many tests ran.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

step() { printf '\n== %s\n' "$*"; }

need() { # need COMMAND PACKAGE: install a Debian package if its command is missing
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    step "installing $2"
    apt-get install -y -qq "$2" >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq "$2" >/dev/null; }
  else
    echo "tests/run.sh: $1 is missing; install the package $2" >&2
    exit 1
  fi
}
need cc build-essential
need coqc coq
need python3 python3

step "format"
cargo fmt --check

step "lints"
cargo clippy --quiet --all-targets -- -D warnings

step "tests"
log=$(mktemp)
trap 'rm -rf "$log" "${venv:-}"' EXIT
cargo test --quiet 2>&1 | tee "$log"

step "other programs, from PyPI"
venv=$(mktemp -d)
python3 -m venv "$venv" >/dev/null 2>&1 || { need pyvenv python3-venv; python3 -m venv "$venv"; }
"$venv/bin/pip" install --quiet --disable-pip-version-check pyarrow hf_xet==1.8.0
cargo build --quiet

step "Arrow files, opened by pyarrow"
"$venv/bin/python" tests/catalog/check_arrow.py target/debug/store

step "Xet hashes, computed by Hugging Face's client"
"$venv/bin/python" tests/chunk/check_xet.py target/debug/store
python_checks=2

step "proofs"
bash proofs/check.sh

passed=$(awk '/^test result: ok/ {n += $4} END {print n + 0}' "$log")
printf '\n%s passed, 0 failed\n' "$((passed + python_checks))"
