#!/usr/bin/env bash
# Runs everything that must hold: format, lints, tests, doc tests, the checks by pyarrow, numpy, DuckDB, h5py and hf_xet, the proofs.
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
need bsdtar libarchive-tools
need cpio cpio

# Tests of other file systems, of compressed tars and of access control lists use these where they are, and are listed as
# skipped where they are not.
optional=(exfatprogs:mkfs.exfat exfat-fuse:mount.exfat-fuse dosfstools:mkfs.vfat e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs acl:setfacl
  attr:setfattr zstd:zstd xz-utils:xz pigz:pigz lbzip2:lbzip2 pbzip2:pbzip2 tabix:bgzip lz4:lz4 jq:jq)
missing=()
for package in "${optional[@]}"; do
  command -v "${package#*:}" >/dev/null || missing+=("${package%%:*}")
done
if [ ${#missing[@]} != 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  step "installing ${missing[*]}"
  apt-get install -y -qq "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq "${missing[@]}" >/dev/null 2>&1; } || true
fi

absent=()
for package in "${optional[@]}"; do
  command -v "${package#*:}" >/dev/null || absent+=("${package%%:*}")
done
[ ${#absent[@]} = 0 ] || echo "not installed, so some tests are skipped: ${absent[*]}" >&2

step "format"
cargo fmt --check

# Exports to HDF5 take the system's libhdf5. Where that can be had, tests are run with them; the lints look at both.
hdf5=()
has_hdf5() { pkg-config --exists hdf5 2>/dev/null; }
if ! has_hdf5 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  step "installing libhdf5-dev"
  apt-get install -y -qq libhdf5-dev pkg-config >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq libhdf5-dev pkg-config >/dev/null; } || true
fi
if has_hdf5; then hdf5=(--features hdf5); else echo "skipped: exports to HDF5, for there is no libhdf5-dev" >&2; fi

step "lints"
cargo clippy --quiet --all-targets -- -D warnings
# As users build them: the program, whose rooms are private, and the library without the program.
cargo clippy --quiet -- -D warnings
cargo clippy --quiet --lib --no-default-features -- -D warnings
[ ${#hdf5[@]} = 0 ] || cargo clippy --quiet --all-targets "${hdf5[@]}" -- -D warnings

step "the public face of the library"
python3 tests/api/check_api.py

step "tests"
log=$(mktemp) skipped=$(mktemp)
trap 'rm -rf "$log" "$skipped" "${venv:-}"' EXIT
export SEAMSTORE_SKIPPED=$skipped
cargo test --quiet "${hdf5[@]}" 2>&1 | tee "$log"

step "other programs, from PyPI"
venv=$(mktemp -d)
python3 -m venv "$venv" >/dev/null 2>&1 || { need pyvenv python3-venv; python3 -m venv "$venv"; }
"$venv/bin/pip" install --quiet --disable-pip-version-check pyarrow numpy polars duckdb h5py hf_xet==1.8.0
cargo build --quiet "${hdf5[@]}"

step "Arrow files, opened by pyarrow"
"$venv/bin/python" tests/catalog/check_arrow.py target/debug/store

step "arrays, mapped by numpy; the catalog, asked by DuckDB"
"$venv/bin/python" tests/catalog/check_arrays.py target/debug/store

step "the documented queries, asked by Polars, pyarrow and DuckDB"
"$venv/bin/python" tests/catalog/check_queries.py target/debug/store

if [ ${#hdf5[@]} != 0 ]; then
  step "HDF5, read by h5py"
  "$venv/bin/python" tests/catalog/check_hdf5.py target/debug/store
fi

step "odd tars, read by tarfile and bsdtar"
"$venv/bin/python" tests/archive/differential.py target/debug/store

step "Xet hashes, computed by Hugging Face's client"
"$venv/bin/python" tests/chunk/check_xet.py target/debug/store
python_checks=$((5 + (${#hdf5[@]} != 0)))

step "proofs"
bash proofs/check.sh

step "skipped"
sort -u "$skipped"
[ ${#hdf5[@]} != 0 ] || echo "skipped: exports to HDF5: there is no libhdf5-dev" | tee -a "$skipped"
# With all programs there, only what depends on the machine may be skipped: where CI is set, anything else fails.
unexpected=$(sort -u "$skipped" | grep -vEf <(grep -vE '^(#|$)' tests/expected_skips.txt) || true)
if [ -n "$unexpected" ] && [ -n "${CI:-}" ] && [ ${#absent[@]} = 0 ]; then
  printf '\nnot in tests/expected_skips.txt:\n%s\n' "$unexpected" >&2
  exit 1
fi
passed=$(awk '/^test result: ok/ {n += $4} END {print n + 0}' "$log")
printf '\n%s passed, 0 failed\n' "$((passed + python_checks))"
