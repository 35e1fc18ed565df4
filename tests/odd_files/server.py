"""A FUSE file system in one file, with faults: python3 server.py FAULT MOUNT_POINT

  inodes  each stat of a file or directory gives another inode number
  twice   the root lists the file "a" twice
  empty   files claim to have 0 bytes
  early   files claim to have twice as many bytes as they have
  more    files claim to have half as many bytes as they have
  linked  all files claim to be one file with two names
"""
import ctypes, itertools, os, stat, struct, sys

fault, mount_point = sys.argv[1:3]
DEPTH = 20
SIZES = {"small": 33_000, "middle": 3_000_000, "large": 9_000_000}
TOP = ["a", "a", "z"] if fault == "twice" else list(SIZES)
files = {}  # node: (name, bytes)
fresh = itertools.count(1000)

def bytes_of(name):
    return (name.encode() + b" 0123456789\n") * (SIZES.get(name, 1000) // 12)

def node_of(parent, name):
    """The directories 1 to DEPTH lie in one another; each has a file "f"."""
    if parent == 1 and name in TOP:
        return 200 + TOP.index(name)
    if fault == "inodes" and name == "d" and parent < DEPTH:
        return parent + 1
    if fault == "inodes" and name == "f":
        return 100 + parent
    return None

def names_in(node):
    if node == 1 and fault != "inodes":
        return TOP
    return (TOP if node == 1 else []) + (["d"] if node < DEPTH else []) + ["f"]

def content(node):
    return bytes_of(TOP[node - 200] if node >= 200 else "f")

def attributes(node):
    is_directory = node <= DEPTH
    inode = next(fresh) if fault == "inodes" else 77 if fault == "linked" and not is_directory else node
    length = 0 if is_directory else len(content(node))
    size = {"empty": 0, "early": 2 * length, "more": length // 2}.get(fault, length)
    blocks = 0 if fault in ("empty", "early", "more") else (length + 511) // 512
    mode = stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
    links = 2 if is_directory or fault == "linked" else 1
    time = 1_000_000_000
    return struct.pack("<6Q10I", inode, size, blocks, time, time, time, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)

def answer(op, node, body):
    if op == 26:  # init
        return 0, struct.pack("<IIIIHHII", 7, 31, 65536, 0, 16, 12, 65536, 1).ljust(64, b"\0")
    if op == 1:  # lookup
        found = node_of(node, body.rstrip(b"\0").decode())
        return (-2, b"") if found is None else (0, struct.pack("<4QII", found, 0, 0, 0, 0, 0) + attributes(found))
    if op == 3:  # getattr
        return 0, struct.pack("<QII", 0, 0, 0) + attributes(node)
    if op in (14, 27):  # open, opendir; 1: direct I/O
        return 0, struct.pack("<QII", 1, 1 if op == 14 and fault in ("empty", "early", "more") else 0, 0)
    if op == 28:  # readdir
        offset, size = struct.unpack_from("<Q", body, 8)[0], struct.unpack_from("<I", body, 16)[0]
        listed = b""
        for place, name in list(enumerate([".", ".."] + names_in(node)))[offset:]:
            raw = name.encode()
            entry = struct.pack("<QQII", 1, place + 1, len(raw), 0) + raw
            entry = entry.ljust((len(entry) + 7) // 8 * 8, b"\0")
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return 0, listed
    if op == 15:  # read
        offset, size = struct.unpack_from("<Q", body, 8)[0], struct.unpack_from("<I", body, 16)[0]
        return 0, content(node)[offset:offset + size]
    if op in (18, 25, 29):  # release, flush, releasedir
        return 0, b""
    if op == 17:  # statfs
        return 0, b"\0" * 80
    return -38, b""

device = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % device
if libc.mount(b"odd", mount_point.encode(), b"fuse.odd", 0, options):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
while True:
    try:
        request = os.read(device, 1 << 17)
    except OSError:
        break
    _, op, unique, node, *_ = struct.unpack_from("<IIQQIIII", request)
    if op in (2, 42):  # forget
        continue
    error, reply = answer(op, node, request[40:])
    try:
        os.write(device, struct.pack("<IiQ", 16 + len(reply), error, unique) + reply)
    except OSError:
        pass
