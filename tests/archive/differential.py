"""Reads thousands of odd members with the store, with Python's tarfile and with bsdtar, and compares them.

usage: differential.py STORE [--archives N] [--seed N]

Archives are made here, byte by byte, from a fixed seed: every format, long and odd names, links, sparse maps, numbers in
base 256, unknown types, damage. Then come real archives: by GNU tar, bsdtar, cpio and tarfile in each format that they
write, and the one of CPython's own tests. All are added at once and must come back byte for byte. What the store has of
an archive's members is read by `export --tar`, and what bsdtar has by copying the archive with it; tarfile reads both.
Compared are name, kind, size, content, link target, mode, owner and time. With `--archives 4000` it takes some minutes.

The programs differ by themselves in these points, and the store takes the side named here:

| what | Python's tarfile | bsdtar | the store |
| --- | --- | --- | --- |
| a regular member (`0`) whose whole name ends with `/` | a file | a directory | a directory |
| type `D` (GNU's list of a directory) | a file | a directory | a directory |
| types `V`, `M`, `N` (label, continued part, old long name) | members | members, but for `V` | no names to read by |
| type `A` (Solaris ACL) | a member | an attribute of the next | a member; the next of its name wins |
| GNU's times in the prefix field | part of the name | times | times |
| a hard link with content in a pax archive | not skipped, so that reading ends | read, not copied | content, unless a header follows at once |
| records that are not UTF-8, without `hdrcharset` | read | refused | read |
| zeros, then more members | read if asked to | read if asked to | read |
| a block without a valid header | skipped if asked to | the end | skipped to the next header |
| a hard link to a later member | not found | kept as a link | its content |
| names with `..`, without a name | members | members | no names to read by |
| several members of a name | the last | all | the last |
"""

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

from odd_tars import Maker


def cleaned(name):
    """The path below the archive's, `None` for a name that is not to be read by."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts or "\0" in name else "/".join(parts)


def kind_of(info):
    if info.islnk():
        return "link"
    for kind, test in [("directory", info.isdir()), ("symlink", info.issym()), ("char", info.ischr()), ("block", info.isblk()), ("fifo", info.isfifo())]:
        if test:
            return kind
    return "file"


def listed(data, is_original):
    """Every member that tarfile finds, in order, with what can be compared. It reads no content of links."""
    members = []
    with tarfile.open(fileobj=io.BytesIO(data), ignore_zeros=is_original, errorlevel=0) as tar:
        for info in tar:
            if is_original and info.type in (b"V", b"M", b"N"):
                continue
            kind = kind_of(info)
            content = None
            if kind == "file":
                content = tar.extractfile(info).read()
            members.append((info, kind, content))
    return members


def facts(members, strip=""):
    """What each path is, as the store takes it: the last of a name, hard links with what they lead to."""
    paths = []
    for info, kind, content in members:
        name = info.name
        if strip:
            name = name.removeprefix(strip).lstrip("/")
        paths.append(cleaned(name))
    def known(at, path):
        info, kind, _ = members[at]
        return path is not None and (path != "" or kind == "directory")
    target = {}
    rows, forward = {}, []
    for at, ((info, kind, content), path) in enumerate(zip(members, paths)):
        if kind == "link":
            to = info.linkname
            to = cleaned(to.removeprefix(strip) if strip else to)
            if to in rows:
                target[at] = rows[to]
            else:
                forward.append((at, to))
        if known(at, path):
            rows[path] = at
    for at, to in forward:
        target[at] = rows.get(to)
    found = {}
    for path, at in rows.items():
        seen = set()
        while at in target and at not in seen:
            seen.add(at)
            at = target[at]
        if at is None or at in seen:
            continue
        info, kind, content = members[at]
        fact = {"kind": kind, "mode": info.mode & 0o7777, "uid": info.uid, "gid": info.gid, "mtime": round(info.mtime, 5)}
        if kind == "file":
            fact |= {"size": len(content), "content": hashlib.sha256(content).hexdigest()[:16]}
        if kind == "symlink":
            fact["target"] = info.linkname
        if kind in ("char", "block"):
            fact["device"] = (info.devmajor, info.devminor)
        found[path] = fact
    return found


def run(command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def looked_through(call, name, data, ours, programs):
    """What `ls` and `check-tar` say, where that can be compared."""
    differences = []
    rows = json.loads(call("--json", "ls", "-R", f"tars/{name}/").stdout)["entries"]
    rows = {row["path"].removeprefix(f"tars/{name}").lstrip("/"): row for row in rows}
    for path, fact in ours.items():
        if path.isprintable() and "\udcff" not in path and "\udce9" not in path:
            row = rows.get(path, {})
            kind = {"char": "char device", "block": "block device"}.get(fact["kind"], fact["kind"])
            if row.get("kind") != kind or kind == "file" and row["size"] != fact["size"]:
                differences.append(f"{name}: {path!a}: ls has {row}, export {fact}")
    if "tarfile" in programs:
        count = {}
        for _, kind, _ in listed(data, True):
            count[kind] = count.get(kind, 0) + 1
        kinds = json.loads(call("--json", "check-tar", f"tars/{name}").stdout)["kinds"]
        words = [("files", ["file"]), ("directories", ["directory"]), ("symlinks", ["symlink"]), ("hard_links", ["link"])]
        for word, of in [*words, ("devices", ["char", "block"]), ("fifos", ["fifo"])]:
            if kinds[word] != sum(count.get(kind, 0) for kind in of):
                differences.append(f"{name}: check-tar has {kinds}, tarfile {count}")
                break
    return differences


def real_archives(folder):
    """Archives by other programs, of one tree."""
    tree = os.path.join(folder, "tree")
    long = os.path.join(tree, "d" * 49, "e" * 44)
    os.makedirs(long)
    for at in range(80, 125):
        with open(os.path.join(tree, "n" * at), "wb") as file:
            file.write(b"%d" % at * at)
    for name in ["file.txt", "f" * 200]:
        with open(os.path.join(long, name), "wb") as file:
            file.write(name.encode() * 30)
    with open(os.path.join(tree.encode(), b"caf\xe9"), "wb") as file:
        file.write(b"not UTF-8")
    with open(os.path.join(tree, "gr\u00fcn"), "wb") as file:
        file.write(b"UTF-8")
    with open(os.path.join(tree, "sparse"), "wb") as file:
        for at in range(0, 3 << 20, 1 << 18):
            file.seek(at)
            file.write(b"data" * 1024)
        file.truncate(4 << 20)
    os.link(os.path.join(tree, "n" * 80), os.path.join(tree, "z-hard"))
    os.symlink("t" * 150, os.path.join(tree, "z-soft"))
    os.mkfifo(os.path.join(tree, "z-pipe"))
    os.utime(os.path.join(tree, "n" * 81), ns=(0, -1_500_000_000))
    made = {}
    commands = {f"gnu-{f}": ["tar", f"--format={f}"] for f in ["v7", "oldgnu", "gnu", "ustar", "posix"]}
    commands |= {f"sparse-{v}": ["tar", "--format=posix", "-S", f"--sparse-version={v}"] for v in ["0.0", "0.1", "1.0"]}
    commands["sparse-old"] = ["tar", "--format=gnu", "-S"]
    commands["listed"] = ["tar", "--format=gnu", "--listed-incremental=/dev/null"]
    commands |= {f"bsd-{f}": ["bsdtar", f"--format={f}"] for f in ["v7", "ustar", "gnutar", "pax", "pax restricted"]}
    for name, command in commands.items():
        path = os.path.join(folder, f"{name}.tar".replace(" ", "-"))
        if shutil.which(command[0]):
            run([*command, "-cf", path, "tree"], cwd=folder)
            if os.path.exists(path):
                made[os.path.basename(path)] = path
    if shutil.which("cpio"):
        names = run(["find", "tree", "-print0"], cwd=folder).stdout
        for f in ["ustar", "tar"]:
            path = os.path.join(folder, f"cpio-{f}.tar")
            with open(path, "wb") as file:
                subprocess.run(["cpio", "-0", "-o", "-H", f], cwd=folder, input=names, stdout=file, stderr=subprocess.DEVNULL)
            made[os.path.basename(path)] = path
    for f in [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]:
        path = os.path.join(folder, f"python-{f}.tar")
        with tarfile.open(path, "w", format=f) as tar:
            for root, folders, files in os.walk(tree):
                folders.sort()
                for name in sorted(files):
                    full = os.path.join(root, name)
                    try:
                        tar.add(full, os.path.relpath(full, folder))
                    except ValueError:
                        pass
        made[os.path.basename(path)] = path
    try:
        import test
        path = os.path.join(os.path.dirname(test.__file__), "testtar.tar")
        if os.path.exists(path):
            made["testtar.tar"] = path
    except ImportError:
        pass
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--archives", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    store = os.path.abspath(arguments.store)
    has_bsdtar = shutil.which("bsdtar") is not None
    differences, cases = [], {"tarfile": 0, "bsdtar": 0, "real": 0}
    with tempfile.TemporaryDirectory() as folder:
        call = lambda *words, **more: run([store, "--store", os.path.join(folder, "s"), *words], cwd=folder, **more)
        tars = os.path.join(folder, "tars")
        os.mkdir(tars)
        made = {}
        for at in range(arguments.archives):
            maker = Maker(random.Random(arguments.seed * 1_000_003 + at))
            data = maker.archive(25)
            name = f"{at:05}.tar"
            made[name] = (data, maker.programs)
            with open(os.path.join(tars, name), "wb") as file:
                file.write(data)
        work = os.path.join(folder, "real")
        os.mkdir(work)
        for name, path in real_archives(work).items():
            with open(path, "rb") as file:
                data = file.read()
            shutil.copyfile(path, os.path.join(tars, name))
            # GNU's list of an increment is of type `D`, and has times in the prefix; bsdtar refuses records that are not
            # UTF-8, which GNU tar writes without a word, and a record of CPython's archive.
            programs = {"tarfile", "bsdtar"}
            if name == "listed.tar":
                programs.discard("tarfile")
            if name in ("gnu-posix.tar", "testtar.tar") or name.startswith("sparse-") and name != "sparse-old.tar":
                programs.discard("bsdtar")
            made[name] = (data, programs | {"real"})
        added = call("add", "tars")
        if added.returncode not in (0, 3):
            sys.exit(added.stderr.decode())
        if call("get", "tars", "-o", "copy").returncode != 0:
            sys.exit("the archives do not come back")
        for name, (data, programs) in made.items():
            with open(os.path.join(folder, "copy", name), "rb") as file:
                if file.read() != data:
                    differences.append(f"{name}: does not come back byte for byte")
            exported = call("export", "--tar", f"tars/{name}/")
            if exported.returncode not in (0, 3):
                differences.append(f"{name}: export: {exported.stderr.decode(errors='replace')}")
                continue
            ours = facts(listed(exported.stdout, False), f"tars/{name}")
            differences += looked_through(call, name, data, ours, programs)
            views = {}
            if "tarfile" in programs:
                views["tarfile"] = data
            if has_bsdtar and "bsdtar" in programs:
                environment = {**os.environ, "LC_ALL": "C.UTF-8"}
                copied = run(["bsdtar", "--format=pax", "--options=pax:hdrcharset=BINARY", "-cf", "-", f"@{os.path.join(tars, name)}"], env=environment)
                if copied.returncode != 0:
                    differences.append(f"{name}: bsdtar: {copied.stderr.decode(errors='replace')}")
                else:
                    views["bsdtar"] = copied.stdout
            for program, bytes_ in views.items():
                try:
                    theirs = facts(listed(bytes_, True))
                except (tarfile.ReadError, ValueError) as error:
                    differences.append(f"{name}: {program}: {error}")
                    continue
                cases["real" if "real" in programs else program] += len(theirs)
                for path in sorted({*ours, *theirs}):
                    a, b = ours.get(path), theirs.get(path)
                    if a != b:
                        differences.append(f"{name}: {path!a}\n    store   {a}\n    {program:7} {b}")
    print(", ".join(f"{count} members compared with {program}" for program, count in cases.items()).replace("with real", "of real archives"))
    if not has_bsdtar:
        print("skipped: bsdtar is not installed")
    if differences:
        sys.exit("\n".join(differences[:40]) + f"\n{len(differences)} differences")
    if min(cases["tarfile"], cases["real"]) < 400 or sum(cases.values()) < 2000 and arguments.archives >= 120:
        sys.exit(f"too few cases: {cases}")


main()
