#!/usr/bin/env python3
"""Does h5py read an export to HDF5, in each layout, and is it there what is on disk?

Usage: check_hdf5.py PATH-OF-STORE-PROGRAM

Adds a tree with odd names, empty files, files at the edges of what fits into an object's header, and some of many chunks;
exports it in every layout, compressed and not, and compares every byte that h5py reads with the files. Ends with status 0
only if all agree.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

COMPACT_BYTES_MAX = 65_531
EDGES = [0, 1, 65_530, 65_531, 65_532, 65_536, 1 << 20, (1 << 20) + 1, 5_000_000]
ODD = [b"100%.txt", b"%ff", b"\xff\xfe", "größe".encode(), b"new\nline", b" ", b"...", b"a b", b"%", b"x" * 255, b"\\", b"-"]

# Further names of one file.
AGAIN = {b"tree/twin linked", b"tree/z/here alone/\xe4"}


def make_tree(root: bytes):
    numbers = random.Random(3)
    os.makedirs(root + b"/odd")
    os.makedirs(root + b"/\xe9\xe8/deep/er")
    os.makedirs(root + b"/nothing")
    for size in EDGES:
        write(root + b"/size-%d" % size, numbers.randbytes(size))
    for name in ODD:
        write(root + b"/odd/" + name, name)
        write(root + b"/\xe9\xe8/deep/er/" + name, numbers.randbytes(100_000))
    os.makedirs(root + b"/many")
    for number in range(3000):
        write(root + b"/many/%d" % number, numbers.randbytes(numbers.randrange(0, 3000)))
    write(root + b"/text", b"some text " * 300_000)
    write(root + b"/twin a", numbers.randbytes(700_000))
    os.link(root + b"/twin a", root + b"/twin linked")
    os.makedirs(root + b"/z/here alone")
    os.link(root + b"/twin a", root + b"/z/here alone/\xe4")
    with open(root + b"/twin a", "rb") as file:
        write(root + b"/twin b", file.read())
    with open(root + b"/sparse", "wb") as file:
        file.truncate(3_000_000)
        file.write(b"front")
    os.symlink(b"text", root + b"/link")


def write(path: bytes, data: bytes):
    with open(path, "wb") as file:
        file.write(data)


def files_below(base: bytes):
    """Paths and contents, all names of all files, in the order of a snapshot."""
    found = {}
    for folder, _, names in os.walk(base + b"/tree"):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                with open(path, "rb") as file:
                    found[path[len(base) + 1 :]] = file.read()
    return dict(sorted(found.items(), key=lambda item: item[0].split(b"/")))


def bytes_of(dataset):
    assert dataset.dtype == np.uint8 and dataset.ndim == 1, dataset
    return dataset[()].tobytes()


def link_name(path: bytes):
    """As docs/exports.md has it, for trees in which no path is both a file and a directory."""
    text = path.replace(b"%", b"%25").decode(errors="surrogateescape")
    return "".join(f"%{ord(c) - 0xDC00:02x}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def check_compact(file: h5py.File, files: dict, compressed: bool):
    seen = {}

    def visit(name, thing):
        if isinstance(thing, h5py.Dataset):
            path = thing.attrs["path"].tobytes() if "path" in thing.attrs else name.encode()
            seen[path] = thing

    file.visititems(visit)
    # Further names of a file are links; those are visited once.
    assert set(files) - set(seen) == AGAIN and not set(seen) - set(files)
    assert all(file[link_name(path)] == file["tree/twin a"] for path in AGAIN)
    for path, data in files.items():
        dataset = file[link_name(path)]
        assert bytes_of(dataset) == data, path
        is_odd = link_name(path).encode() != path and path not in AGAIN
        assert ("path" in dataset.attrs) == is_odd, path
        layout = dataset.id.get_create_plist().get_layout()
        large = h5py.h5d.CHUNKED if compressed else h5py.h5d.CONTIGUOUS
        assert layout == (h5py.h5d.COMPACT if len(data) <= COMPACT_BYTES_MAX else large), (path, layout)


def check_sha1(file: h5py.File, files: dict, compressed: bool):
    table = file["index"]
    names, offsets, lengths, hashes = (table[name][()] for name in ("name", "name_offset", "length", "sha1"))
    assert offsets.dtype == lengths.dtype == np.uint64 and hashes.shape == (len(files), 20)
    assert len(offsets) == len(files) + 1 and offsets[-1] == len(names)
    found = [names[offsets[n] : offsets[n + 1]].tobytes() for n in range(len(files))]
    assert found == list(files), "the table has other names"
    expected = set()
    for row, (path, data) in enumerate(files.items()):
        name = hashlib.sha1(data).hexdigest()
        expected.add(name)
        assert hashes[row].tobytes().hex() == name and lengths[row] == len(data), path
        assert bytes_of(file[name]) == data, path
    assert set(file) == expected | {"index"}, "contents that no file has, or that are there twice"


def check_shredder(file: h5py.File, files: dict, compressed: bool):
    # Of files with several names the first counts.
    files = {path: data for path, data in files.items() if path not in AGAIN}
    image, image_offset, name, name_offset, length, hashes = (
        file[key] for key in ("image", "image_offset", "name", "name_offset", "length", "hash")
    )
    assert set(file) == {"image", "image_offset", "name", "name_offset", "length", "hash"}
    assert image.compression == ("gzip" if compressed else None)
    image_offset, name_offset, length = image_offset[()], name_offset[()], length[()]
    assert image_offset.dtype == name_offset.dtype == length.dtype == np.uint64 and hashes.shape == (len(files), 32)
    assert (image_offset[-1], name_offset[-1]) == (image.shape[0], name.shape[0])
    assert (np.diff(image_offset) == length).all()
    names, hashes = name[()], hashes[()]
    for row, (path, data) in enumerate(files.items()):
        assert names[name_offset[row] : name_offset[row + 1]].tobytes() == path
        assert image[image_offset[row] : image_offset[row + 1]].tobytes() == data, path
    # Equal contents have equal hashes, others have not. (That they are BLAKE3 is for check_arrays.py and the tests.)
    by_hash = {hashes[row].tobytes(): data for row, data in enumerate(files.values())}
    assert len(by_hash) == len(set(files.values()))
    assert all(by_hash[hashes[row].tobytes()] == data for row, data in enumerate(files.values()))


CHECKS = {"compact": check_compact, "sha1": check_sha1, "shredder": check_shredder}


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        base = os.fsencode(folder)
        make_tree(base + b"/tree")
        store = Path(folder, "store")
        run = lambda *arguments: subprocess.run([program, "--store", store, "--quiet", *arguments], cwd=folder, check=True)
        run("add", "tree")
        files = files_below(base)
        for layout, check in CHECKS.items():
            for compress in [[], ["--compress", "1"]]:
                # A name that is no UTF-8 is nothing to h5py; to this program it is.
                name = b"\xff.h5" if layout == "shredder" else layout.encode() + b".h5"
                run("export", "--hdf5", name, "--layout", layout, *compress, "--force")
                with h5py.File(base + b"/" + name, "r") as file:
                    assert file.attrs["seamstore:layout"] == layout
                    check(file, files, bool(compress))
            with open(base + b"/" + name, "rb") as file:
                before = file.read()
            run("export", "--hdf5", name, "--layout", layout, *compress, "--force", "--threads", "1")
            with open(base + b"/" + name, "rb") as file:
                assert file.read() == before, f"{layout}: other bytes the second time"
            # A tree without files, and a file alone.
            run("export", "--hdf5", "none.h5", "--layout", layout, "--force", "tree/nothing")
            with h5py.File(base + b"/none.h5", "r") as file:
                assert not [key for key in file if key not in ("image", "image_offset", "name", "name_offset", "length",
                                                               "hash", "index")]
            run("export", "--hdf5", "one.h5", "--layout", layout, "--force", "tree/text")
            with h5py.File(base + b"/one.h5", "r") as file:
                check(file, {b"tree/text": files[b"tree/text"]}, False) if layout != "compact" else None
        left = [name for name in os.listdir(folder) if name.startswith(".store-export")]
        assert not left, left
        print(f"{len(files)} names, {len(CHECKS)} layouts: the same in h5py {h5py.__version__}")


if __name__ == "__main__":
    main()
