"""Makes tars of every format and oddity, byte by byte, from a seeded generator: for differential.py."""

BLOCK = 512
MAGIC = {"v7": b"", "ustar": b"ustar\x0000", "gnu": b"ustar  \0", "pax": b"ustar\x0000", "star": b"ustar\x0000"}


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def number(value, width, base_256=False):
    digits = b"%0*o" % (width - 1, value) if value >= 0 else b""
    if base_256 or value < 0 or len(digits) >= width:
        return (value % (1 << (8 * width)) | (0 if value < 0 else 1 << (8 * width - 1))).to_bytes(width, "big")
    return digits + b"\0"


def header(fmt, name, kind=b"0", size=0, link=b"", mode=0o644, uid=0, gid=0, mtime=0, prefix=b"", base_256=False, device=(0, 0), extra=()):
    block = bytearray(BLOCK)
    fields = [(0, name[:100]), (100, number(mode, 8)), (108, number(uid, 8)), (116, number(gid, 8))]
    fields += [(124, number(size, 12, base_256)), (136, number(mtime, 12, base_256)), (156, kind), (157, link[:100])]
    fields += [(257, MAGIC[fmt])]
    if fmt != "v7":
        fields += [(265, b"user"), (297, b"group"), (329, number(device[0], 8)), (337, number(device[1], 8)), (345, prefix)]
    if fmt == "star":
        fields += [(476, number(mtime, 12)[:11] + b" "), (488, number(mtime, 12)[:11] + b" "), (508, b"tar\0")]
    for at, value in [*fields, *extra]:
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def record(key, value):
    rest = len(key) + len(value) + 3
    length = rest
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


class Maker:
    """Makes one archive; says which programs cannot be asked about it."""

    def __init__(self, rng):
        self.rng, self.out, self.names = rng, [], []
        # What only one of the programs reads as the store does is in archives that the other is not asked about.
        self.programs = rng.choice([{"tarfile", "bsdtar"}, {"tarfile", "bsdtar"}, {"tarfile"}, {"bsdtar"}])
        self.has_sized_links = self.programs == {"tarfile"} and rng.random() < 0.3

    def name(self, at):
        rng = self.rng
        part = lambda n: bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz0123456789-_ ") for _ in range(n)).replace(b" ", b"x")
        begin = b"m%d-" % at
        kind = rng.randrange(14)
        if kind < 4:
            name = begin + part(rng.randrange(1, 20))
        elif kind < 8:
            # As long as fields are, and with a slash where they end.
            length = rng.choice([98, 99, 100, 101, 102, 154, 155, 156, 199, 200, 255, 256, 257, 300])
            name = begin + part(length - len(begin))
            cuts = [99, rng.randrange(len(begin) + 1, length - 1)] if rng.random() < 0.6 else [length // 2]
            for cut in cuts:
                if len(begin) < cut < length - 1 and name[cut - 1 : cut] != b"/" and name[cut + 1 : cut + 2] != b"/":
                    name = name[:cut] + b"/" + name[cut + 1 :]
        elif kind == 8:
            name = b"./" * rng.randrange(1, 3) + begin + b"/./" + part(5)
        elif kind == 9:
            name = b"/" + begin + b"//" + part(5)
        elif kind == 10:
            name = begin + "gr\u00fcn/\u732b".encode() + part(rng.choice([3, 90]))
        elif kind == 11:
            name = begin + b"caf\xe9\xff" + part(rng.choice([3, 120]))
        elif kind == 12:
            name = rng.choice([b"../" + begin, begin + b"/../" + part(4)])
        else:
            name = rng.choice(self.names) if self.names else begin
        return name

    def content(self):
        rng = self.rng
        data = rng.randbytes(rng.choice([0, 0, 1, 20, 511, 512, 513, 1000, 5000]))
        odd = rng.randrange(12)
        if odd == 0:
            return bytes(rng.choice([512, 1024, 1500]))
        if odd == 1:
            return header("ustar", b"inner") + data
        return data

    def emit(self, fmt, name, kind=b"0", data=b"", link=b"", size=None, records=(), **more):
        """A member in a format, with what the format needs for long names."""
        size = len(data) if size is None else size
        prefix, head = b"", []
        records = list(records)
        if fmt in ("ustar", "star") and len(name) > 100:
            room = 131 if fmt == "star" else 155
            cuts = [at for at in range(1, min(room, len(name) - 1) + 1) if name[at : at + 1] == b"/" and len(name) - at - 1 <= 100]
            if cuts:
                cut = self.rng.choice(cuts)
                prefix, name = name[:cut], name[cut + 1 :]
            else:
                fmt = self.rng.choice(["gnu", "pax"])
        if fmt == "v7" and (len(name) > 100 or len(link) > 100):
            fmt = "gnu"
        if fmt in ("ustar", "star") and len(link) > 100:
            fmt, name, prefix = "gnu", (prefix + b"/" + name if prefix else name), b""
        if fmt == "pax":
            is_text = True
            try:
                name.decode(), link.decode()
            except UnicodeDecodeError:
                is_text = False
            extended = []
            if len(name) > 100 or self.rng.random() < 0.3:
                extended.append((b"path", name))
            if link and (len(link) > 100 or self.rng.random() < 0.3):
                extended.append((b"linkpath", link))
            if extended and not is_text:
                extended.insert(0, (b"hdrcharset", b"BINARY"))
            extended += records
            if extended:
                body = b"".join(record(key, value) for key, value in extended)
                short = self.rng.choice([b"PaxHeaders/pax", b"d" * 99 + b"/"])
                head += [header("pax", short, b"x", len(body)), padded(body)]
        if fmt == "gnu":
            for long, flag in [(link, b"K"), (name, b"L")]:
                if len(long) > 100 or self.rng.random() < 0.1 and long:
                    body = long + b"\0"
                    head += [header("gnu", b"././@LongLink", flag, len(body)), padded(body)]
        self.out.append(b"".join(head) + header(fmt, name, kind, size, link, prefix=prefix, **more) + padded(data))

    def member(self, at):
        rng = self.rng
        fmt = rng.choice(["v7", "ustar", "ustar", "gnu", "gnu", "pax", "pax", "star"])
        name = self.name(at)
        more = dict(mode=rng.choice([0o644, 0o4755, 0o600]), uid=rng.choice([0, 1000, 0o7777777, 1 << 30]), gid=rng.choice([0, 100]))
        more["mtime"] = rng.choice([0, 1, 1_700_000_000, 0o77777777777, -1, -86400 * 365 * 20])
        more["base_256"] = rng.random() < 0.2
        kind = rng.randrange(20)
        if kind < 9:
            records = [(b"mtime", rng.choice([b"1700000000.25", b"-5.5", b"123.000000001"]))] if rng.random() < 0.2 else []
            data = self.content()
            if fmt == "pax" and rng.random() < 0.2:
                # The record counts, not the field.
                self.emit(fmt, name, rng.choice([b"0", b"7"]), data, records=[*records, (b"size", b"%d" % len(data))], size=0, **more)
            else:
                self.emit(fmt, name, rng.choice([b"0", b"0", b"7"]) if fmt != "v7" else b"0", data, records=records, **more)
            self.names.append(name)
        elif kind == 9 and b"\xff" not in name:
            self.emit(fmt, name + b"/", b"0" if self.programs == {"bsdtar"} else b"5", **more)
        elif kind == 10:
            target = rng.choice([b"a", b"../up", b"t" * 100, b"t" * 99 + b"/u", b"t/" * 80 + b"t", "z\u00fc".encode()])
            self.emit(fmt, name, b"2", link=target, **more)
        elif kind in (11, 12):
            target = rng.choice([*self.names[-4:], name, b"not-there", b"m%d-later" % (at + 1)])
            # Some programs give a link the size of the file.
            self.emit(fmt, name, b"1", link=target, size=700 if self.has_sized_links else 0, **more)
            if target.endswith(b"-later"):
                self.emit("ustar", target, data=b"it comes later")
        elif kind == 13:
            flag = rng.choice([b"3", b"4", b"6"])
            self.emit(fmt if fmt != "v7" else "ustar", name, flag, device=(rng.randrange(200), rng.randrange(200)), **more)
        elif kind == 14:
            self.emit(fmt if fmt != "v7" else "ustar", name, bytes([rng.choice(b"BCFGHIJOPQRTUWYZ")]), self.content(), **more)
        elif kind == 15:
            flags = {("bsdtar",): [b"V", b"D"], ("tarfile",): [b"V", b"M", b"N", b"A"]}.get(tuple(self.programs), [b"V"])
            flag = rng.choice(flags)
            self.emit("ustar", b"label-%d" % at, flag, rng.randbytes(700) if flag in b"DM" else b"", **more)
        elif kind == 16:
            self.sparse(name, more)
        elif kind == 17 and self.programs == {"bsdtar"}:
            times = number(1_600_000_000, 12)
            self.out.append(header("gnu", b"gnu-times-%d" % at, size=3, extra=[(345, times), (357, times)]) + padded(b"abc"))
        elif kind == 18 and self.programs == {"tarfile"}:
            body = record(b"comment", b"for all") + (record(b"mtime", b"1500000000.5") if rng.random() < 0.3 else b"")
            self.out.append(header("pax", b"GlobalHead", b"g", len(body)) + padded(body))
        elif kind == 19 and self.programs == {"tarfile"}:
            # A file without a name, and the directory that holds all.
            self.emit("gnu", *rng.choice([(b"", b"0"), (b".", b"0"), (b".", b"5"), (b"./", b"5"), (b"/", b"5"), (b"", b"5")]), **more)
        else:
            self.emit(fmt, b"again-%d" % rng.randrange(5), b"0", self.content(), **more)

    def sparse(self, name, more):
        rng = self.rng
        runs, at = [], 0
        for _ in range(rng.choice([1, 3, 4, 5, 30])):
            at += rng.choice([0, 512, 4096]) if runs else rng.choice([0, 512])
            runs.append((at, rng.randrange(1, 3) * 512))
            at += runs[-1][1]
        real = at + rng.choice([0, 1000])
        if not runs or runs[-1][0] + runs[-1][1] < real:
            runs.append((real, 0))
        data = rng.randbytes(sum(length for _, length in runs))
        # tarfile does not ask what holds for all members of those in the old form.
        form = rng.choice(["0.0", "0.1", "1.0"] + ["old"] * (self.programs != {"tarfile"}))
        text = lambda number: b"%d" % number
        if len(name) > 100:
            # bsdtar cuts the names of sparse files where it copies them.
            name = name[:95].rstrip(b"/.") + b"-cut"
        if form == "old":
            entries = [number(offset, 12) + number(length, 12) for offset, length in runs]
            extra = [(386, b"".join(entries[:4])), (482, bytes([len(entries) > 4])), (483, number(real, 12))]
            out = header("gnu", name, b"S", len(data), extra=extra, **more)
            rest = entries[4:]
            while rest:
                block = b"".join(rest[:21]).ljust(504, b"\0")
                rest = rest[21:]
                out += (block + bytes([bool(rest)])).ljust(BLOCK, b"\0")
            self.out.append(out + padded(data))
            return
        if form == "1.0":
            front = padded(b"".join(text(n) + b"\n" for n in [len(runs), *(n for run in runs for n in run)]))
            records = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name), (b"GNU.sparse.realsize", text(real))]
            data = front + data
        elif form == "0.1":
            numbers = b",".join(text(n) for run in runs for n in run)
            records = [(b"GNU.sparse.size", text(real)), (b"GNU.sparse.numblocks", text(len(runs))), (b"GNU.sparse.name", name), (b"GNU.sparse.map", numbers)]
        else:
            records = [(b"GNU.sparse.size", text(real)), (b"GNU.sparse.numblocks", text(len(runs)))]
            for offset, length in runs:
                records += [(b"GNU.sparse.offset", text(offset)), (b"GNU.sparse.numbytes", text(length))]
        if form == "0.0":
            self.emit("pax", name, data=data, records=records, **more)
        else:
            body = b"".join(record(key, value) for key, value in [(b"hdrcharset", b"BINARY"), *records])
            extended = header("pax", b"PaxHeaders/x", b"x", len(body)) + padded(body)
            self.out.append(extended + header("pax", b"GNUSparseFile.0/short", size=len(data), **more) + padded(data))

    def archive(self, members):
        rng = self.rng
        self.out.append(header("ustar", b"begin") + b"")
        for at in range(members):
            self.member(at)
        self.emit("ustar", b"last", data=b"the last one")
        # Where the header behind a link is damaged, whether the link has content cannot be known.
        damage = rng.randrange(8) if self.programs == {"tarfile"} and not self.has_sized_links else None
        if damage in (0, 1):
            # As `cat` of archives makes it, and as tapes leave it.
            places = [at for at in range(1, len(self.out)) if self.out[at - 1][156:157] != b"g"]
            self.out.insert(rng.choice(places), bytes(rng.choice([512, 1024, 10240])))
        elif damage in (2, 3):
            # A header without records before it: tarfile gives up where records lead to none.
            plain = [at for at in range(1, len(self.out)) if self.out[at][156:157] in b"0234567"]
            plain = [at for at in plain if self.out[at - 1][156:157] != b"g"]
            at = rng.choice(plain)
            part = bytearray(self.out[at])
            part[rng.randrange(0, 148)] ^= 1
            self.out[at] = bytes(part)
        elif damage == 4:
            whole = b"".join(self.out)
            self.programs = set()
            return whole[: rng.randrange(BLOCK, len(whole))]
        return b"".join(self.out) + bytes(rng.choice([1024, 10240]))
