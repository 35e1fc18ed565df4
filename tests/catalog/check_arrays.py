#!/usr/bin/env python3
"""Do numpy, pyarrow and DuckDB read an export to arrays, and the catalog itself, and is it there what is on disk?

Usage: check_arrays.py PATH-OF-STORE-PROGRAM

Adds a tree with labels, exports it with `--arrow`, maps every array with numpy, and compares each item with its file; reads
`index.arrow` with pyarrow; and asks DuckDB questions of `index.arrow`, the snapshot and the recipes together. Ends with
status 0 only if all agree.
"""

import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.ipc as ipc

INDEX = {
    "path": pa.binary(),
    "kind": pa.dictionary(pa.int8(), pa.string()),
    "item": pa.uint64(),
    "offset": pa.uint64(),
    "length": pa.uint64(),
    "hash": pa.binary(32),
    "mode": pa.uint16(),
    "mtime": pa.timestamp("ns", "UTC"),
    "link_target": pa.binary(),
    "label:type": pa.string(),
}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}


def make_tree(root: bytes):
    numbers = random.Random(2)
    os.makedirs(root + b"/d/e")
    os.mkdir(root + b"/nothing")
    for name, size in [(b"empty", 0), (b"d/one", 1), (b"d/e/large", 900_000), (b"larger", 2_000_000), (b"\xff\n", 10)]:
        with open(root + b"/" + name, "wb") as file:
            file.write(numbers.randbytes(size))
        os.utime(root + b"/" + name, ns=(0, numbers.randrange(10**18, 2 * 10**18)))
    with open(root + b"/d/shares", "wb") as file, open(root + b"/larger", "rb") as other:
        file.write(other.read()[500_000:])
    for number in range(500):
        with open(root + b"/d/small-%d" % number, "wb") as file:
            file.write(numbers.randbytes(numbers.randrange(0, 5000)))
    with open(root + b"/d/a.whl", "wb") as file:
        file.write(b"PK\x03\x04")
    with open(root + b"/sparse", "wb") as file:
        file.truncate(3_000_000)
        file.write(b"front")
    os.symlink(b"../\xfe", root + b"/d/link")
    os.mkfifo(root + b"/pipe")
    os.link(root + b"/d/e/large", root + b"/linked")


def content(path: bytes):
    with open(path, "rb") as file:
        return file.read()


def check_arrays(folder: Path, base: bytes):
    """Every array against the files; returns the hashes by path."""
    names = ["payload", "offsets", "lengths", "names", "name_offsets", "hashes"]
    # All of them are mapped, none is read.
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    assert all(isinstance(array, np.memmap) for array in arrays.values() if array.size), "not mapped"
    payload, offsets, lengths, all_names, name_offsets, hashes = (arrays[name] for name in names)
    count = len(lengths)
    assert payload.dtype == all_names.dtype == hashes.dtype == np.uint8 and hashes.shape == (count, 32)
    assert offsets.dtype == lengths.dtype == name_offsets.dtype == np.uint64
    assert len(offsets) == len(name_offsets) == count + 1
    assert offsets[-1] == len(payload) and name_offsets[-1] == len(all_names)
    assert (np.diff(offsets) == lengths).all()
    found = {}
    for item in range(count):
        path = all_names[name_offsets[item] : name_offsets[item + 1]].tobytes()
        assert payload[offsets[item] : offsets[item + 1]].tobytes() == content(base + b"/" + path), path
        found[path] = (item, int(offsets[item]), int(lengths[item]), hashes[item].tobytes())
    assert list(found) == sorted(found, key=lambda path: path.split(b"/")), "not in path order"
    return found


def check_index(table: pa.Table, base: bytes, items: dict):
    types = {field.name: field.type for field in table.schema}
    assert types == INDEX, types
    assert table.schema.metadata[b"seamstore:object"] == b"items"
    table.validate(full=True)
    columns = {name: (table[name].cast(pa.int64()) if name == "mtime" else table[name]).to_pylist() for name in INDEX}
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    left = dict(items)
    for row in rows:
        path = row["path"]
        here = os.lstat(base + b"/" + path)
        assert (row["mode"], row["mtime"]) == (stat.S_IMODE(here.st_mode), here.st_mtime_ns), path
        assert row["label:type"] == ("wheel" if path.endswith(b".whl") else None), path
        place = (row["item"], row["offset"], row["length"], row["hash"])
        if row["kind"] == "hardlink":
            assert path == b"tree/linked" and row["link_target"] == b"tree/d/e/large", row
            assert place == items[b"tree/d/e/large"]
            continue
        assert row["kind"] == KINDS[stat.S_IFMT(here.st_mode)], row
        if row["kind"] == "file":
            assert place == left.pop(path), path
        else:
            assert place == (None,) * 4, path
        target = os.readlink(base + b"/" + path) if row["kind"] == "symlink" else None
        assert row["link_target"] == target, path
    assert not left, left
    return len(rows)


def check_duckdb(index: Path, store: Path, items: dict, rows: int):
    """The index, the snapshot and the recipes, joined."""
    listed = ds.dataset(index, format="ipc")
    (snapshot,) = (ds.dataset(path, format="ipc") for path in (store / "snapshots").glob("*.arrow"))
    recipes = ds.dataset(list((store / "recipes").glob("*.arrow")), format="ipc")
    connection = duckdb.connect()
    for name, table in [("listed", listed), ("snapshot", snapshot), ("recipes", recipes)]:
        connection.register(name, table)
    ask = lambda question: connection.sql(question).fetchall()[0]
    total = sum(length for _, _, length, _ in items.values())
    assert ask("select count(*), count(*) filter (kind = 'file') from listed") == (rows, len(items))
    assert ask("select sum(length) from listed where kind = 'file'") == (total,)
    # The hash of a file of one chunk is that chunk's id; ids of snapshots and exports can be joined.
    joined = "from listed join snapshot using (path)"
    assert ask(f"select count(*) {joined}") == (rows,)
    assert ask(f"select count(*) {joined} where chunk_id is not null and chunk_id <> hash") == (0,)
    assert ask(f"select count(*) {joined} where chunk_id is not null")[0] > 300
    sizes = "select count(*), count(*) filter (list_last(chunks).end = length) from listed join snapshot using (path)"
    in_recipes, agreeing = ask(f"{sizes} join recipes using (recipe_id)")
    assert in_recipes == agreeing >= 3, (in_recipes, agreeing)
    assert ask("""select path from listed where "label:type" = 'wheel'""") == (b"tree/d/a.whl",)


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        base = os.fsencode(folder)
        make_tree(base + b"/tree")
        store = Path(folder, "store")
        run = lambda *arguments: subprocess.run([program, "--store", store, "--quiet", *arguments], cwd=folder, check=True)
        run("add", "--label-rule", "*.whl type=wheel", "tree")
        run("export", "--arrow", "arrays")
        run("export", "--arrow", "empty", "tree/nothing")
        arrays = Path(folder, "arrays")
        items = check_arrays(arrays, base)
        with pa.memory_map(str(arrays / "index.arrow")) as mapped:
            rows = check_index(ipc.open_file(mapped).read_all(), base, items)
        assert len(items) == 508 and rows == 508 + 7, (len(items), rows)
        check_duckdb(arrays / "index.arrow", store, items, rows)
        assert check_arrays(Path(folder, "empty"), base) == {}
        versions = f"numpy {np.__version__}, pyarrow {pa.__version__}, DuckDB {duckdb.__version__}"
        print(f"{len(items)} items of {rows} entries: the same in {versions}")


if __name__ == "__main__":
    main()
