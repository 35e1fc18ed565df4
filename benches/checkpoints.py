"""Makes checkpoints of a model in training, from a real one: five steps that change its last layers a little, and
every other step once more in bfloat16.

Usage: checkpoints.py MODEL.safetensors     writes step-1.safetensors, step-1-bf16.safetensors, … beside it
"""

import json
import sys
from pathlib import Path

import numpy

STEPS = range(1, 6)
TRAINED = ("layer.5.", "pooler")


def read(path: Path) -> tuple[dict, bytearray]:
    raw = path.read_bytes()
    header_bytes = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + header_bytes]), bytearray(raw[8 + header_bytes :])


def write(path: Path, header: dict, data: bytearray) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def tensors(header: dict) -> list[tuple[str, dict]]:
    named = [(name, about) for name, about in header.items() if name != "__metadata__"]
    return sorted(named, key=lambda tensor: tensor[1]["data_offsets"][0])


def in_bfloat16(header: dict, data: bytearray) -> tuple[dict, bytearray]:
    """The same model, its float32 tensors rounded to bfloat16, to the nearest and half to even."""
    rounded, blob = {}, bytearray()
    for name, about in tensors(header):
        begin, end = about["data_offsets"]
        part, kind = bytes(data[begin:end]), about["dtype"]
        if kind == "F32":
            bits = numpy.frombuffer(part, "<u4")
            part = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
            kind = "BF16"
        rounded[name] = {**about, "dtype": kind, "data_offsets": [len(blob), len(blob) + len(part)]}
        blob += part
    return rounded, blob


def main() -> None:
    first = Path(sys.argv[1])
    header, data = read(first)
    noise = numpy.random.default_rng(1)
    trained = [
        about["data_offsets"]
        for name, about in header.items()
        if name != "__metadata__" and about["dtype"] == "F32" and any(part in name for part in TRAINED)
    ]
    for step in STEPS:
        for begin, end in trained:
            weights = numpy.frombuffer(bytes(data[begin:end]), "<f4")
            data[begin:end] = (weights + noise.normal(0, 1e-4, weights.shape)).astype("<f4").tobytes()
        write(first.with_name(f"step-{step}.safetensors"), header, data)
        if step % 2:
            write(first.with_name(f"step-{step}-bf16.safetensors"), *in_bfloat16(header, data))


if __name__ == "__main__":
    main()
