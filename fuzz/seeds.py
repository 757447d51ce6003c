#!/usr/bin/env python3
"""Makes the corpora that fuzzers begin with: few files of at most 1 KiB."""

import json
import pathlib
import struct
import subprocess
import zlib

HERE = pathlib.Path(__file__).resolve().parent
LONGEST = 1024


def seed(target: str, name: str, content: bytes) -> None:
    assert len(content) <= LONGEST, f"{target}/{name} has {len(content)} bytes"
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def safetensors(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(name: str, content: bytes, kind: bytes = b"0") -> bytes:
    head = bytearray(512)
    head[0 : len(name)] = name.encode()
    head[100:108], head[124:136], head[148:156] = b"0000644\0", b"%011o\0" % len(content), b" " * 8
    head[156:157], head[257:265] = kind, b"ustar\00000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + bytes(range(3 * width))) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    """8×8 grey, one coefficient: tables of two codes are enough."""

    def part(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    tables = part(0xDB, b"\0" + bytes([16] * 64))
    frame = part(0xC0, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0))
    codes = bytes([1] + [0] * 15)
    huffman = part(0xC4, b"\x00" + codes + b"\0") + part(0xC4, b"\x10" + codes + b"\0")
    scan = part(0xDA, bytes([1, 1, 0, 0, 63, 0]))
    return b"\xff\xd8" + tables + frame + huffman + scan + b"\x3f\xff\xd9"


def main() -> None:
    subprocess.run(["cargo", "run", "--quiet", "--bin", "seeds"], cwd=HERE, check=True)
    one = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    seed("safetensors_header", "one", safetensors(one, bytes(8)))
    seed("safetensors_header", "empty", safetensors({"__metadata__": {"format": "pt"}}, b""))
    image = png(3, 2)
    seed("tar_walk", "plain", entry("a/0.png", image)[: 512 + 512])
    seed("tar_walk", "link", entry("a/0.png", b"", b"2"))
    seed("tar_walk", "pax", entry("x", b"16 path=b/1.png\n", b"x"))
    seed("image", "png", image)
    seed("image", "jpeg", jpeg())
    seed("image", "webp", bytes.fromhex("524946461a000000574542505650384c0d0000002f00000010071011118888fe0700"))
    seed("config", "steps", b'[run]\nname = "demo"\n\n[data]\ntrain = "data"\n')
    root = HERE.parent / "configs"
    for name in ["slow", "herd"]:
        seed("scenario", name, (root / "chaos" / f"{name}.toml").read_bytes())


if __name__ == "__main__":
    main()
