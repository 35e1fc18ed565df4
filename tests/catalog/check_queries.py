#!/usr/bin/env python3
"""Do the queries of docs/catalog.md work as they stand there, also where snapshots have different labels?

Usage: check_queries.py PATH-OF-STORE-PROGRAM

Makes stores whose snapshots have no labels, some, and others, in every order of their files' names that comes up, runs each Python
block of the document in the stores' folder, and compares what the queries count with what was added. Ends with status 0 only if all
agree.
"""

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

STORES = 4
ADDED = [
    ("plain", ["one", "large"], []),
    ("typed", ["two"], ["--label", "type=x", "--label", "repository=r"]),
    ("other", ["three"], ["--label", "type=y"]),
    ("again", ["one"], ["--label", "batch=7"]),
]
SIZES = {"one": 1, "two": 22, "three": 333, "large": 300_000}


def main() -> int:
    store = os.path.abspath(sys.argv[1])
    document = Path(__file__).parents[2] / "docs" / "catalog.md"
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.S)
    assert len(blocks) == 4, f"{len(blocks)} queries in {document}"
    firsts = set()
    for number in range(STORES):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            noise = random.Random(number)
            for name, size in SIZES.items():
                Path(name).write_bytes(noise.randbytes(size))
            for tag, names, labels in ADDED:
                subprocess.run([store, "-q", "--store", "store", "add", "--tag", tag, *labels, *names], check=True)
            subprocess.run([store, "-q", "--store", "store", "bundle", "export", "all.bundle"], check=True)
            first = min(Path("store/snapshots").iterdir())
            firsts.add("label:type" in pl.scan_ipc(first).collect_schema())
            printed, variables = [], []
            for block in blocks:
                variables.append({})
                with contextlib.redirect_stdout(io.StringIO()) as output:
                    exec(block, variables[-1])
                printed.append(output.getvalue())
            rows = [(name, labels) for _, names, labels in ADDED for name in names]
            total = sum(SIZES[name] for name, _ in rows)
            assert variables[0]["files"].select(pl.len(), pl.col("size").sum()).collect().row(0) == (len(rows), total)
            assert "large" in printed[1], printed[1]
            grouped = variables[2]["entries"].group_by("label:type", "label:repository").agg(pl.len(), pl.col("size").sum())
            counted = {(row[0], row[1]): row[2:] for row in grouped.collect().rows()}
            expected = {
                (None, None): (3, 2 * SIZES["one"] + SIZES["large"]),
                ("x", "r"): (1, SIZES["two"]),
                ("y", None): (1, SIZES["three"]),
            }
            assert counted == expected, counted
            assert sorted(map(int, printed[3].split())) == [1, 1, 1, 2], printed[3]
            os.chdir("/")
    print(f"{len(blocks)} queries of docs/catalog.md agree with {STORES} stores of mixed labels; first snapshots with labels: {firsts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
