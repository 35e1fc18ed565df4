#!/usr/bin/env bash
# The store beside restic, borg, tar with zstd, and where they are installed rustic and hf_xet: same data, same run.
#   benches/compare.sh STORE-PROGRAM DATA [FOLDER-TO-WORK-IN]      DATA: a file or a folder
# Each program adds DATA to an empty repository, adds it again reading every byte, adds it again by metadata, and
# restores it (compared with diff). Programs take turns, RUNS times (3); medians are printed: seconds, MB/s, processor
# seconds, peak memory, stored size; then how many times better than each the store is (below 1: worse).
#   RUNS=1           fewer rounds
#   RESTIC=PATH      another restic, RUSTIC=PATH another rustic (cargo install rustic-rs)
#   XET_PYTHON=PATH  a Python with hf_xet 1.8 (pip install hf_xet); both then use LZ4 for that comparison; files only
#   PEERS="restic"   only these of: restic rustic borg tar xet
# Needs restic, borgbackup, zstd, time (installed if you are root), and room for what RUNS rounds restore: ext4 makes files
# up to four times slower for six minutes after thousands of others were deleted, so trees are not deleted before the end.
# Do not delete much in the minutes before, either.
set -euo pipefail
store=$(realpath "${1:?store program}") data=$(realpath "${2:?file or folder}")
work=$(mktemp -d -p "${3:-${TMPDIR:-/tmp}}" compare.XXXXXX)
trap 'rm -rf "$work"' EXIT
RUNS=${RUNS:-3} RESTIC=${RESTIC:-restic} RUSTIC=${RUSTIC:-rustic}
export RESTIC_PASSWORD=x RUSTIC_PASSWORD=x BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
parent=$(dirname "$data") leaf=$(basename "$data")
bytes=$(find "$data" -type f -printf '%s\n' | awk '{n += $1} END {printf "%.0f", n}') files=$(find "$data" -type f | wc -l)

need() { command -v "$1" >/dev/null || apt-get install -y -qq "$2" >/dev/null; }
peers=${PEERS-restic borg tar}
[ -n "${PEERS+set}" ] || { command -v "$RUSTIC" >/dev/null && peers+=" rustic"; } || true
[ -n "${PEERS+set}" ] || { [ -n "${XET_PYTHON:-}" ] && [ -f "$data" -o "$files" -lt 1000 ] && peers+=" xet"; } || true
need /usr/bin/time time
for peer in $peers; do
  case $peer in restic) need "$RESTIC" restic ;; borg) need borg borgbackup ;; tar) need zstd zstd ;; esac
done

timed() { # timed PROGRAM STEP COMMAND…: appends a line to the results
  local program=$1 step=$2
  shift 2
  sync
  if ! /usr/bin/time -q -f '%e %U %S %M' -o time "$@" >out 2>err; then
    echo "compare.sh: $program $step failed: $(tail -n 1 err)" >&2
    exit 1
  fi
  awk -v p="$program" -v s="$step" '{printf "%s\t%s\t%s\t%s\t%s\n", p, s, $1, $2 + $3, $4}' time >>"$work/times"
}
sized() { printf '%s\t%s\n' "$1" "$(du -sb --exclude=index "$2" | cut -f1)" >>"$work/sizes"; } # no caches
same() { diff -r --no-dereference "$data" "$1" >/dev/null || { echo "compare.sh: $1 differs" >&2 && exit 1; }; }

run_seamstore() {
  timed seamstore add "$store" --store s add "$data"
  timed seamstore re-read "$store" --store s add --reread "$data"
  timed seamstore unchanged "$store" --store s add "$data"
  sized seamstore s
  timed seamstore get "$store" --store s get "$data" -o restored
  same restored
}
run_restic() {
  "$RESTIC" init -q --repository-version 2 -r r
  timed restic add "$RESTIC" -q -r r backup "$data"
  timed restic re-read "$RESTIC" -q -r r backup --force "$data"
  timed restic unchanged "$RESTIC" -q -r r backup "$data"
  sized restic r
  timed restic get "$RESTIC" -q -r r restore latest --target restored
}
run_rustic() {
  export RUSTIC_REPOSITORY=$PWD/u
  "$RUSTIC" init >/dev/null 2>&1
  timed rustic add "$RUSTIC" --no-progress backup "$data"
  timed rustic re-read "$RUSTIC" --no-progress backup --force "$data"
  timed rustic unchanged "$RUSTIC" --no-progress backup "$data"
  sized rustic u
  timed rustic get "$RUSTIC" --no-progress restore latest restored
}
run_borg() {
  borg init -e none b
  timed borg add borg create -C zstd,3 b::1 "$data"
  timed borg re-read borg create -C zstd,3 --files-cache=disabled b::2 "$data"
  timed borg unchanged borg create -C zstd,3 b::3 "$data"
  sized borg b
  mkdir restored
  (cd restored && /usr/bin/time -o ../time -f '%e %U %S %M' borg extract ../b::1)
  awk '{printf "borg\tget\t%s\t%s\t%s\n", $1, $2 + $3, $4}' time >>"$work/times"
}
run_tar() {
  timed tar add bash -c "tar cf - -C '$parent' '$leaf' | zstd -q -3 -T0 --long=27 -o z"
  sized tar z
  mkdir restored
  timed tar get bash -c 'zstd -q -d --long=27 -c z | tar xf - -C restored'
}
run_xet() { # and the store with LZ4
  cat >client.py <<'PY'
import sys, pathlib, hf_xet
folder, *given = map(pathlib.Path, sys.argv[1:])
files = [file for path in given for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{folder}") as commit:
    for file in files:
        commit.start_upload_file(str(file), sha256=hf_xet.SKIP_SHA256)
PY
  mkdir x
  export HF_HOME=$PWD/home HF_XET_CACHE=$PWD/home/cache
  timed xet add "$XET_PYTHON" client.py "$PWD/x" "$data"
  timed xet re-read "$XET_PYTHON" client.py "$PWD/x" "$data"
  sized xet x
  "$store" --store l init --codec lz4
  timed seamstore-lz4 add "$store" --store l add "$data"
  timed seamstore-lz4 re-read "$store" --store l add --reread "$data"
  sized seamstore-lz4 l
}

programs=(seamstore $peers)
for round in $(seq "$RUNS"); do
  for turn in "${!programs[@]}"; do
    program=${programs[(turn + round - 1) % ${#programs[@]}]} # nobody is always the first
    # Warm the page cache for everybody: a virtual machine's may be in its host's swap space after a minute.
    find "$data" -type f -print0 | xargs -0 -n 2000 cat >/dev/null
    mkdir -p "$work/$round/$program" && cd "$work/$round/$program"
    export BORG_BASE_DIR=$PWD/base XDG_CACHE_HOME=$PWD/cache
    "run_$program"
    [ "$files" -gt 1000 ] || rm -rf restored
  done
done

printf '%s: %s bytes, %s files; %s processors; medians of %s\n\n' "$leaf" "$bytes" "$files" "$(nproc)" "$RUNS"
python3 - "$work" "$bytes" <<'PY'
import statistics, sys
folder, total = sys.argv[1], int(sys.argv[2])
times, sizes = {}, {}
for line in open(f"{folder}/times"):
    program, step, *figures = line.rstrip("\n").split("\t")
    times.setdefault(program, {}).setdefault(step, []).append([float(figure) for figure in figures])
for line in open(f"{folder}/sizes"):
    program, size = line.split("\t")
    sizes.setdefault(program, []).append(int(size))
median = {p: {s: [statistics.median(row[i] for row in rows) for i in range(3)] for s, rows in steps.items()}
          for p, steps in times.items()}
size = {program: statistics.median(found) for program, found in sizes.items()}
print("| program | step | seconds | MB/s | processor seconds | peak memory, MB | spread, seconds |")
print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
for program, steps in median.items():
    for step, (seconds, processor, memory) in steps.items():
        spread = sorted(row[0] for row in times[program][step])
        print(f"| {program} | {step} | {seconds:.2f} | {total / 1e6 / max(seconds, 0.01):.0f} | {processor:.2f} | "
              f"{memory / 1024:.0f} | {spread[0]:.2f} to {spread[-1]:.2f} |")
print("\n| program | stored, MB | of the data |\n| --- | ---: | ---: |")
for program, found in size.items():
    print(f"| {program} | {found / 1e6:.1f} | {100 * found / total:.1f} % |")
print("\n| times better than | add | re-read | unchanged | get | stored size: ours of theirs |")
print("| --- | ---: | ---: | ---: | ---: | ---: |")
for program in median:
    if program.startswith("seamstore"):
        continue
    ours = "seamstore-lz4" if program == "xet" else "seamstore"
    cells = [f"{median[program][step][0] / max(median[ours][step][0], 0.01):.2f}"
             if step in median[program] and step in median[ours] else "" for step in ("add", "re-read", "unchanged", "get")]
    print(f"| {program} | {' | '.join(cells)} | {size[ours] / size[program]:.2f} |")
PY
