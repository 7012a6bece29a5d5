"""Changes to files that are good: bytes, JSON values, and what stands at a path."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

DEEP = "[" * 20_000
HUGE = "9" * 5_000
"""A whole number with more digits than Python converts."""

OTHER_TYPES: list[Any] = [
    None, True, -1, 0, 1, 3, 10**30, 1.5, 1e308, float("nan"), float("inf"), "", "x", "0", "1",
    "../../etc/passwd", [], [None], [[1]], ["x"], {}, {"x": 1}, "x" * 10_000,
]  # fmt: skip


def damage_bytes(raw: bytes, random: Random) -> tuple[str, bytes]:
    """Return what was done, and the bytes with a part lost, flipped, zeroed, doubled or put in."""
    at = random.randrange(len(raw) + 1)
    what = random.choice(["cut", "flip", "flip", "zero", "double", "insert", "append", "empty"])
    if what == "cut":
        return f"cut off at byte {at}", raw[:at]
    if what == "flip":
        found = bytearray(raw)
        for _ in range(random.choice([1, 1, 8])):
            if found:
                found[random.randrange(len(found))] ^= 1 << random.randrange(8)
        return "bits flipped", bytes(found)
    end = min(at + random.choice([1, 16, 512]), len(raw))
    if what == "zero":
        return f"bytes {at} to {end} zeroed", raw[:at] + bytes(end - at) + raw[end:]
    if what == "double":
        return f"bytes {at} to {end} doubled", raw[:end] + raw[at:]
    if what == "empty":
        return "emptied", b""
    junk = random.choice([b"\x00", b"\xff\xfe", b"\n", b"\r", b"{", b'"', random.randbytes(16)])
    return f"{junk!r} put in", raw[:at] + junk + raw[at:] if what == "insert" else raw + junk


def damage_json(raw: bytes, random: Random) -> tuple[str, bytes]:
    """Return what was done, and the JSON with a value of another type, a key lost or added."""
    what = random.choice(["value", "value", "value", "value", "lose", "add", "whole", "text"])
    if what == "whole":
        value = random.choice(OTHER_TYPES)
        return f"all of it is {value!r:.40}", json.dumps(value).encode()
    if what == "text":
        text = raw.decode()
        changes = {
            "UTF-16": text.encode("utf-16"),
            "a byte order mark": b"\xef\xbb\xbf" + raw,
            "deep nesting": text.replace(":", f": {DEEP}", 1).encode(),
            "an endless number": text.replace(":", f": {HUGE}", 1).encode(),
            "a second object": raw + raw,
            "a surrogate": text.replace('"', '"\\ud800', 1).encode(),
        }
        name = random.choice(list(changes))
        return name, changes[name]
    try:
        root = json.loads(raw)
    except ValueError:  # It is lines of JSON, or no JSON at all.
        return damage_bytes(raw, random)
    inner = list(_containers(root, "$"))
    if not inner:
        return damage_bytes(raw, random)
    # Small containers hold what is read; in a vocabulary all entries are alike.
    where, holder = random.choice(inner)
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if what == "lose":
        del holder[key]
        return f"{where}.{key} lost", json.dumps(root).encode()
    if what == "add" and isinstance(holder, dict):
        holder["unheard_of"] = 1
        return f"{where}.unheard_of added", json.dumps(root).encode()
    holder[key] = random.choice(OTHER_TYPES)
    return f"{where}.{key} is {holder[key]!r:.40}", json.dumps(root).encode()


def damage_file(path: Path, twin: Path | None, random: Random) -> str:
    """Damage the file at `path`; return what was done.

    Args:
        path: the file.
        twin: the same file of another run, to put in its place.
        random: what chooses.
    """
    kinds = ["bytes"] * 6 + ["missing", "symlink", "loop", "FIFO", "folder"]
    if path.suffix == ".json":
        kinds += ["json"] * 12
    if twin is not None and twin.is_file() and twin.read_bytes() != path.read_bytes():
        kinds += ["swap"] * 3
    kind = random.choice(kinds)
    raw = path.read_bytes()
    if kind in ("bytes", "json"):
        what, found = (damage_bytes if kind == "bytes" else damage_json)(raw, random)
        path.write_bytes(found)
        return what
    path.unlink()
    if kind == "swap":
        shutil.copyfile(str(twin), path)
        return "swapped with that of another run"
    if kind == "symlink":
        away = path.with_name(f"{path.name}.away")
        away.write_bytes(raw[: len(raw) // 2])
        path.symlink_to(away.name)
        return "a link to the first half of it"
    if kind == "loop":
        path.symlink_to(path.name)
        return "a link to itself"
    if kind == "FIFO":
        os.mkfifo(path)
        return "a FIFO"
    if kind == "folder":
        path.mkdir()
        return "a folder"
    return "missing"


def _containers(node: Any, where: str) -> list[tuple[str, Any]]:
    """Return the objects and lists in a JSON value that are not empty, with their places."""
    if not isinstance(node, (dict, list)) or not node:
        return []
    items = list(node.items() if isinstance(node, dict) else enumerate(node))
    inner = [pair for key, value in items for pair in _containers(value, f"{where}.{key}")]
    return [(where, node), *inner]
