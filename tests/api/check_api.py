"""The public face of the library: is it the one that `tests/api/public_api.txt` lists, and is each part documented?

Takes rustdoc's JSON of the library (rustc 1.95 writes it behind an unstable flag). With `--write` it writes the list anew: a change
of the face is then a change of that file, and is reviewed there.

Fails if the list differs; if there are more than six public modules; if a public type has no example; if a function
that can fail does not name in `# Errors` what it fails with.
"""

import difflib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = ROOT / "tests/api/public_api.txt"
MODULES_MAX = 6
TYPES = ("struct", "enum", "trait", "union")


def rustdoc() -> dict:
    command = ["cargo", "rustdoc", "--quiet", "--lib", "--", "-Zunstable-options", "--output-format=json"]
    with tempfile.TemporaryDirectory() as folder:
        # Only rustdoc may use unstable flags. A variable for all of cargo would have the dependencies built anew.
        wrapper = pathlib.Path(folder, "rustdoc")
        wrapper.write_text('#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n')
        wrapper.chmod(0o755)
        subprocess.run(command, cwd=ROOT, env={**os.environ, "RUSTDOC": str(wrapper)}, check=True)
    metadata = subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT)
    target = pathlib.Path(json.loads(metadata)["target_directory"])
    return json.loads((target / "doc/seamstore.json").read_text())


def kind_of(item: dict) -> str:
    return next(iter(item["inner"]))


def signature(item: dict) -> str:
    """The text of the declaration: from its first character to its body, or its end."""
    span = item["span"]
    lines = (ROOT / span["filename"]).read_text().splitlines()
    (first, column), (last, end) = span["begin"], span["end"]
    text = lines[first - 1 : last]
    text[-1] = text[-1][:end] if first != last else text[-1][: end]
    text[0] = text[0][column - 1 :]
    text = re.sub(r"\s+", " ", " ".join(line.strip() for line in text))
    depth = 0
    for at, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character in "{;=" and depth == 0 and text[at : at + 2] != "=>":
            return text[:at].strip()
    return text.strip()


class Face:
    def __init__(self, document: dict) -> None:
        self.index = document["index"]
        self.lines: list[str] = []
        self.faults: list[str] = []
        self.modules = 0
        self.module(self.item(document["root"]), "seamstore")

    def item(self, number: int) -> dict:
        return self.index[str(number)]

    def module(self, module: dict, path: str) -> None:
        """Lists the items of a module, and then its modules."""
        found = []
        for number in module["inner"]["module"]["items"]:
            item = self.item(number)
            name = item["name"]
            if kind_of(item) == "use":
                use = item["inner"]["use"]
                if use["id"] is None or str(use["id"]) not in self.index:
                    found.append((use["name"], "use", item))
                    continue
                name, item = use["name"], self.item(use["id"])
            found.append((name, kind_of(item), item))
        for name, kind, item in sorted((f for f in found if f[1] != "module"), key=lambda f: (f[1], f[0])):
            self.lines.append(f"{path}::{name}")
            self.described(item, f"{path}::{name}", kind)
        for name, _, item in sorted((f for f in found if f[1] == "module"), key=lambda f: f[0]):
            self.modules += 1
            self.lines.append(f"mod {path}::{name}")
            if not item["docs"]:
                self.faults.append(f"{path}::{name} has no documentation")
            self.module(item, f"{path}::{name}")

    def described(self, item: dict, path: str, kind: str) -> None:
        docs = item["docs"] or ""
        if kind in TYPES and "```" not in docs:
            self.faults.append(f"{path} has no example")
        if kind == "function":
            self.lines.append(f"    {signature(item)}")
            self.errors(item, path)
        inner = item["inner"][kind] if kind in item["inner"] else {}
        for number in self.parts(kind, inner):
            part = self.item(number)
            if part["name"] is not None and not part["name"].isdigit():
                self.lines.append(f"    {part['name']}" if kind == "enum" else f"    {signature(part)}")
        traits: list[str] = []
        for number in inner.get("impls", []) if isinstance(inner, dict) else []:
            self.implementation(self.item(number), path, traits)
        if traits:
            self.lines.append(f"    impl {', '.join(sorted(set(traits)))}")

    @staticmethod
    def parts(kind: str, inner: dict) -> list[int]:
        if kind == "enum":
            return inner["variants"]
        if kind == "struct" and isinstance(inner["kind"], dict) and "plain" in inner["kind"]:
            return inner["kind"]["plain"]["fields"]
        return []

    def implementation(self, item: dict, path: str, traits: list[str]) -> None:
        block = item["inner"]["impl"]
        if block["trait"] is not None:
            name = block["trait"]["path"].split("::")[-1]
            if not block["is_synthetic"] and block["blanket_impl"] is None and name != "StructuralPartialEq":
                traits.append(name)
            return
        for number in block["items"]:
            part = self.item(number)
            if part["visibility"] != "public":
                continue
            # What a macro makes has the macro's place.
            text = signature(part)
            self.lines.append(f"    {text if text.startswith('pub') else 'pub fn ' + part['name']}")
            if kind_of(part) == "function":
                self.errors(part, f"{path}::{part['name']}")

    def errors(self, item: dict, path: str) -> None:
        output = item["inner"]["function"]["sig"]["output"]
        name = (output or {}).get("resolved_path", {}).get("path", "")
        if name.split("::")[-1] != "Result":
            return
        docs = item["docs"] or ""
        errors = docs.partition("# Errors")[2]
        if not re.search(r"\[`(crate::)?\w+(::\w+)*`\]", errors):
            self.faults.append(f"{path} does not name what it fails with under `# Errors`")


def main() -> int:
    face = Face(rustdoc())
    if face.modules > MODULES_MAX:
        face.faults.append(f"there are {face.modules} public modules, at most {MODULES_MAX} are wanted")
    lines = [line + "\n" for line in face.lines]
    if "--write" in sys.argv:
        LIST.write_text("".join(lines))
    kept = LIST.read_text().splitlines(keepends=True) if LIST.exists() else []
    sys.stdout.writelines(difflib.unified_diff(kept, lines, "tests/api/public_api.txt", "the library"))
    for fault in face.faults:
        print(fault)
    if kept != lines:
        print("the public face changed; if it should, write the list anew: python3 tests/api/check_api.py --write")
    types = sum(1 for line in lines if not line.startswith((" ", "mod")))
    print(f"{types} public items in {face.modules} modules, {len(face.faults)} faults")
    return int(kept != lines or bool(face.faults))


sys.exit(main())
