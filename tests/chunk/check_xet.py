#!/usr/bin/env python3
"""Does `store hash --xet` print what Hugging Face's own client computes?

Usage: check_xet.py PATH-OF-STORE-PROGRAM [FILE-OR-FOLDER…]

Without files: the inputs made to defeat parallel chunking (`check-align --adversarial`), files of lengths around every
bound of the profile, none and one byte. Ends with status 0 only if all hashes and sizes agree.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import hf_xet

# Window, minimum, mean and maximum of the profile; and what the client reads, and the store segments, at a time.
BOUNDS = [1, 64, 8 << 10, 64 << 10, 128 << 10, 1 << 20, 8 << 20]
AT_A_TIME = 1000


def generate(program: str, folder: Path) -> None:
    subprocess.run(
        [program, "check-align", "--adversarial", "--profile", "xet", "--segments", "2", "--random-lists", "0",
         "--write", str(folder)],
        check=True, stdout=subprocess.DEVNULL)
    numbers = random.Random(7)
    for bound in BOUNDS:
        for length in (bound - 1, bound, bound + 1):
            (folder / f"length {length}").write_bytes(numbers.randbytes(length))
    words = [numbers.randbytes(numbers.randint(1, 40)) for _ in range(500)]
    (folder / "words").write_bytes(b"".join(numbers.choice(words) for _ in range(400_000)))


def files_of(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        below = path.rglob("*") if path.is_dir() else [path]
        found += [str(file) for file in below if file.is_file() and not file.is_symlink()]
    return sorted(found)


def main() -> int:
    program, *given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as made:
        if not given:
            generate(program, Path(made))
        files = files_of([Path(path) for path in given] or [Path(made)])
        different = size = 0
        for begin in range(0, len(files), AT_A_TIME):
            some = files[begin : begin + AT_A_TIME]
            printed = subprocess.run([program, "hash", "--xet", *some], check=True, capture_output=True).stdout
            lines = printed.decode().splitlines()
            assert len(lines) == len(some), (len(lines), len(some))
            for path, line, theirs in zip(some, lines, hf_xet.hash_files(some)):
                ours = line.split(maxsplit=2)[:2]
                size += theirs.file_size
                if ours != [theirs.hash, str(theirs.file_size)] or theirs.file_size != os.path.getsize(path):
                    different += 1
                    print(f"DIFFERENT {path!r}: {ours} here, {theirs.hash} {theirs.file_size} there")
    print(f"{len(files)} files of {size} bytes hashed by store and by the client: {different} different")
    return 1 if different or not files else 0


if __name__ == "__main__":
    sys.exit(main())
