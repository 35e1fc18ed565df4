#!/usr/bin/env python3
"""Do other programs open a store's Arrow files as they are, and do they read there what is on disk?

Usage: check_arrow.py PATH-OF-STORE-PROGRAM

Makes a small tree, adds it, and compares every row that pyarrow reads with the tree; then, where they are installed,
has Polars and DuckDB count the same rows. Ends with status 0 only if all agree.
"""

import json
import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.ipc as ipc

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
ID = pa.binary(32)
WORDS = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("ns", "UTC")
PIECE = pa.struct([pa.field("id", ID, nullable=False), pa.field("end", pa.uint64(), nullable=False)])
XATTR = pa.struct([pa.field("name", pa.binary(), nullable=False), pa.field("value", pa.binary(), nullable=False)])

SNAPSHOT = {
    "path": pa.binary(),
    "kind": pa.dictionary(pa.int8(), pa.string()),
    "mode": pa.uint16(),
    "uid": pa.uint32(),
    "gid": pa.uint32(),
    "user": WORDS,
    "group": WORDS,
    "mtime": TIME,
    "size": pa.uint64(),
    "chunk_id": ID,
    "recipe_id": ID,
    "link_target": pa.binary(),
    "rdev": pa.uint64(),
    "device": pa.uint64(),
    "inode": pa.uint64(),
    "links": pa.uint64(),
    "ctime": TIME,
    "xattrs": pa.list_(pa.field("item", XATTR, nullable=False)),
    "archive": pa.string(),
}
OBJECTS = {"object": pa.string(), "offset": pa.uint64(), "bytes": pa.uint64(), "blake3": ID}
RECIPES = {
    "recipe_id": ID,
    "size": pa.uint64(),
    "chunks": pa.list_(pa.field("item", PIECE, nullable=False)),
}


def make_tree(root: bytes):
    """A few of everything: names that are no UTF-8, small and large files, links, a pipe."""
    numbers = random.Random(1)
    os.makedirs(root + b"/d/e")
    for name, size in [(b"empty", 0), (b"d/one", 1), (b"d/e/large", 900_000), (b"larger", 2_000_000), (b"\xff\n", 10)]:
        with open(root + b"/" + name, "wb") as file:
            file.write(numbers.randbytes(size))
        os.utime(root + b"/" + name, ns=(0, numbers.randrange(10**18, 2 * 10**18)))
    for number in range(300):
        with open(root + b"/d/small-%d" % number, "wb") as file:
            file.write(numbers.randbytes(numbers.randrange(1, 5000)))
    with open(root + b"/d/a.whl", "wb") as file:
        file.write(b"PK\x03\x04")
    os.symlink(b"../\xfe", root + b"/d/link")
    os.mkfifo(root + b"/pipe")
    os.link(root + b"/larger", root + b"/linked")
    os.chmod(root + b"/d/one", 0o4750)
    try:
        os.setxattr(root + b"/d/one", b"user.comment", b"\x00\xff")
    except OSError:
        pass  # Not on every file system.


def paths_below(root: bytes, prefix: bytes):
    """What is at and below `root`, in the order of a snapshot's rows: part by part."""
    found = [prefix]
    for folder, folders, files in os.walk(root):
        found += [prefix + os.path.join(folder, name)[len(root) :] for name in folders + files]
    return sorted(found, key=lambda path: path.split(b"/"))


def check_types(table: pa.Table, expected: dict, kind: str):
    found = {field.name: field.type for field in table.schema}
    assert found == expected, f"{kind}: {found}"
    assert table.schema.metadata[b"seamstore:object"] == kind.encode()
    assert table.schema.metadata[b"seamstore:version"] == b"1"
    table.validate(full=True)


def label_of(path: bytes, key: str):
    """What label an entry has by the rules of `LABELLED`."""
    if key == "source":
        return "check"
    name = os.path.basename(path)
    if name.endswith(b".whl"):
        return "wheel"
    return "small" if path.startswith(b"tree/d/small-") and name.endswith(b"7") else None


# The labels of the second snapshot: its arguments, and the columns they make.
LABELLED = ["--label", "source=check", "--label-rule", "tree/d/small-*7 type=small", "--detect-types"]
LABELS = {"label:source": WORDS, "label:type": WORDS}


def check_snapshot(table: pa.Table, root: bytes, recipes: dict, labels: dict):
    check_types(table, SNAPSHOT | labels, "snapshot")
    rows = rows_of(table)
    expected = paths_below(root, os.path.basename(root))
    assert [row["path"] for row in rows] == expected, "paths or their order"
    for row in rows:
        path = os.path.dirname(root) + b"/" + row["path"]
        here = os.lstat(path)
        is_file = stat.S_ISREG(here.st_mode)
        found = {name: row[name] for name in ("kind", "mode", "uid", "gid", "mtime", "size", "inode", "links", "ctime")}
        assert found == {
            "kind": KINDS[stat.S_IFMT(here.st_mode)],
            "mode": stat.S_IMODE(here.st_mode),
            "uid": here.st_uid,
            "gid": here.st_gid,
            "mtime": here.st_mtime_ns,
            "size": here.st_size if is_file else 0,
            "inode": here.st_ino,
            "links": here.st_nlink,
            "ctime": here.st_ctime_ns,
        }, (path, found)
        assert row["link_target"] == (os.readlink(path) if stat.S_ISLNK(here.st_mode) else None), path
        there = {} if stat.S_ISLNK(here.st_mode) or not is_file else {
            os.fsencode(name): os.getxattr(path, name) for name in os.listxattr(path)
        }
        if is_file:
            assert {x["name"]: x["value"] for x in row["xattrs"]} == there, path
        ids = [row["chunk_id"], row["recipe_id"]]
        assert sum(i is not None for i in ids) == (1 if is_file and here.st_size else 0), path
        if row["recipe_id"]:
            size, chunks = recipes[row["recipe_id"]]
            ends = [chunk["end"] for chunk in chunks]
            assert size == here.st_size == ends[-1] and ends == sorted(set(ends)), path
    for column in labels:
        key = column.removeprefix("label:")
        for row in rows:
            assert row[column] == label_of(row["path"], key), (row["path"], column, row[column])
    info = json.loads(table.schema.metadata[b"seamstore:info"])
    assert info.get("label_keys", []) == [column.removeprefix("label:") for column in labels]
    files = [row for row in rows if row["kind"] == "file"]
    assert info["counts"]["entries"] == len(rows)
    assert info["counts"]["files"] == len(files)
    assert info["counts"]["logical_bytes"] == sum(row["size"] for row in files)
    assert info["tags"] == ["checked"] and (info["parent"] is None) == (not labels) and info["roots"], info
    assert pc.sum(pc.equal(table["kind"], "file")).as_py() == len(files)
    return len(files)


def rows_of(table: pa.Table):
    """Rows as dictionaries; times as integers, because Python's own have no nanoseconds."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        columns[name] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def check_others(snapshot: Path, recipes: Path, files: int, rows: int):
    """Polars and DuckDB, where they are there."""
    seen = []
    try:
        import polars

        frame = polars.read_ipc(snapshot)
        assert frame.height == rows
        assert frame.filter(polars.col("kind") == "file").height == files
        joined = frame.join(polars.read_ipc(recipes), on="recipe_id")
        assert joined.height == frame.filter(polars.col("recipe_id").is_not_null()).height
        assert (joined["size"] == joined["chunks"].list.last().struct.field("end")).all()
        if "label:type" in frame.columns:
            assert frame.filter(polars.col("label:type") == "wheel").height == 1
        seen.append(f"Polars {polars.__version__}")
    except ModuleNotFoundError:
        pass
    try:
        import duckdb

        entries = ds.dataset(snapshot, format="ipc")
        listed = ds.dataset(recipes, format="ipc")
        count = "select count(*), count(*) filter (kind = 'file'), count(recipe_id) from entries"
        counted = duckdb.sql(count).fetchall()[0]
        assert counted[:2] == (rows, files), counted
        join = "select count(*), sum(len(chunks)) from entries join listed using (recipe_id)"
        assert duckdb.sql(join).fetchall()[0][0] == counted[2]
        if "label:type" in entries.schema.names:
            kinds = 'select "label:type", count(*) from entries where "label:source" = \'check\' group by all order by all'
            found = duckdb.sql(kinds).fetchall()
            assert dict(found)["wheel"] == 1 and sum(count for _, count in found) == rows, found
        seen.append(f"DuckDB {duckdb.__version__}")
    except ModuleNotFoundError:
        pass
    return seen


def check_bundle(path: Path, store: Path):
    """The objects of a bundle, found by its footer and its index, are those of the store, and open where they are."""
    whole = pa.memory_map(str(path)).read_buffer()
    footer = whole[-128:].to_pybytes()
    assert footer[120:] == b"seambnd\xf5"
    index_at, index_bytes = (int.from_bytes(footer[at : at + 8], "little") for at in (24, 32))
    index = ipc.open_file(whole[index_at + 64 : index_at + 64 + index_bytes]).read_all()
    check_types(index, OBJECTS, "objects")
    rows = index.to_pylist()
    objects = {str(found.relative_to(store)) for found in store.rglob("*") if found.suffix in (".pack", ".arrow", ".json")}
    assert {row["object"] for row in rows} == objects
    for row in rows:
        found = whole[row["offset"] : row["offset"] + row["bytes"]]
        assert row["offset"] % 64 == 0 and found.to_pybytes() == (store / row["object"]).read_bytes(), row["object"]
        if row["object"].endswith(".arrow"):
            assert ipc.open_file(found).read_all().equals(ipc.open_file(store / row["object"]).read_all())
    return len(rows)


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        root = os.fsencode(folder) + b"/tree"
        make_tree(root)
        store = Path(folder, "store")
        command = [program, "--store", store, "--quiet", "add", "--tag", "checked", "tree"]
        subprocess.run(command, cwd=folder, check=True)
        (snapshot,) = (store / "snapshots").glob("*.arrow")
        # The same once more, with labels; nothing but the snapshot is new.
        subprocess.run(command + LABELLED, cwd=folder, check=True)
        (labelled,) = set((store / "snapshots").glob("*.arrow")) - {snapshot}
        (recipe_file,) = (store / "recipes").glob("*.arrow")

        listed = ipc.open_file(recipe_file).read_all()
        check_types(listed, RECIPES, "recipes")
        recipes = {row["recipe_id"]: (row["size"], row["chunks"]) for row in listed.to_pylist()}
        assert len(recipes) == listed.num_rows, "a recipe is there twice"
        for path, labels in [(snapshot, {}), (labelled, LABELS)]:
            table = ipc.open_file(path).read_all()
            files = check_snapshot(table, root, recipes, labels)
            # The same rows, read as a stream: dictionaries and totals stand in front, too.
            with open(path, "rb") as file:
                file.seek(8)
                stream = ipc.open_stream(file.read()).read_all()
            assert stream.equals(table) and stream.schema.metadata == table.schema.metadata
            seen = [f"pyarrow {pa.__version__}"] + check_others(path, recipe_file, files, table.num_rows)
        bundle = Path(folder, "all.bundle")
        export = [program, "--store", store, "--quiet", "bundle", "export", bundle]
        subprocess.run(export, cwd=folder, check=True)
        objects = check_bundle(bundle, store)
        print(f"{objects} objects of a bundle, found and opened by pyarrow")
        print(f"{table.num_rows} rows, {listed.num_rows} recipes: the same in {', '.join(seen)}")


if __name__ == "__main__":
    main()
