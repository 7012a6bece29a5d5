"""Data files: good ones in all formats, damaged ones, and what freerun read of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import readers
from tests.fuzz.cases import MODEL, TRAINING, Case, Maker, Outcome, Place, Words
from tests.fuzz.damage import DEEP, HUGE, OTHER_TYPES, damage_bytes, damage_file

Row = dict[str, Any]

# fmt: off
TEXTS = [
    "hello, you", 'she said "yes"', '"quoted"', '"open', "it's", "2001-05-01", "2001-05-01T10:00:00Z",
    "12:30", "1", "007", "1e5", "-0", "0x1F", "1,5", "nan", "NaN", "null", "None", "NA", "N/A", "true",
    "#comment", "=1+1", "@x", "a\\nb", "\\", "\\u0041", "{}", "[1]", "<unk>", "</s>", "<backspace>",
    "<pad>", "na\u00efve", "nai\u0308ve", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u4f60\u597d",
    "\u05e9\u05dc\u05d5\u05dd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\ue000", "\u2028x", "x\x85y", "a\x0bb",
    "a\x1cb", "\u200b.", "\ufeffx", " lead", "trail ", "two  spaces", "x" * 300, "\u00df", "\u0130", "%s", "$x",
]
# fmt: on
BROKEN_LINES = ["a\nb", "a\r\nb", "a\tb", "\n", "a\rb"]
"""Texts that only formats with quotes can hold."""
LENGTH = 1_000
"""Sentences with more words are not trained on."""


def make_rows(
    random: Random, columns: tuple[str, str], *, lines: bool, count: int = 24
) -> list[Row]:
    """Return rows of text that readers have misread, with different prompts.

    Args:
        random: what draws them.
        columns: their two columns.
        lines: whether a text may hold line breaks and tabs.
        count: how many there are.
    """
    pool = TEXTS + BROKEN_LINES * lines
    rows = []
    for number in range(count):
        one, other = (" ".join(random.choices(pool, k=random.choice([1, 1, 2]))) for _ in columns)
        if not other.strip():
            other = "x"
        kept = random.random() < 0.5 and one.strip()
        rows.append({columns[0]: f"{one}{number}" if kept else f"{number}", columns[1]: other})
    if random.random() < 0.15:  # a column of dates or numbers alone is what readers convert
        values = ["2001-05-{:02}", "{}", "{}.0", "0{}", "1e{}"]
        if columns[1] != "target":  # sentences with one translation all stay in one split
            values += ["true", "null"]
        value = random.choice(values)
        for number, row in enumerate(rows, 1):
            row[columns[1]] = value.format(number)
    return rows


def write_rows(rows: list[Row], name: str, random: Random) -> bytes:
    """Return rows in the format that a name ends in."""
    plain = name.removesuffix(".gz")
    if plain.endswith(".csv"):
        out = io.StringIO(newline="")
        # The writer quotes a carriage return only where it ends lines.
        alone = any("\r" in text for row in rows for text in row.values())
        quoting = csv.QUOTE_ALL if alone else random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        ending = random.choice(["\n", "\r\n"])
        writer = csv.DictWriter(out, list(rows[0]), quoting=quoting, lineterminator=ending)
        writer.writeheader()
        writer.writerows(rows)
        raw = out.getvalue().encode()
    elif plain.endswith(".tsv"):
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        raw = "".join("\t".join(line) + "\n" for line in table).encode()
    elif plain.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
        raw = buffer.getvalue()
    else:
        ascii_only = random.random() < 0.5
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
        whole = plain.endswith(".json") and random.random() < 0.7
        raw = (f"[{', '.join(lines)}]" if whole else "\n".join(lines) + "\n").encode()
    return gzip.compress(raw) if name.endswith(".gz") else raw


def _edit(raw: bytes, random: Random) -> tuple[str, bytes]:
    """Return what was done to a text file, and its contents with a line or a cell changed."""
    lines = raw.split(b"\n")
    at = random.randrange(len(lines))
    line = lines[at]
    mark = b"\t" if b"\t" in raw else b","
    changes: dict[str, bytes | None] = {
        "a cell more": line + mark + b"more",
        "a cell less": line.rpartition(mark)[0],
        "a line lost": None,
        "a line twice": line + b"\n" + line,
        "an empty line": b"\n" + line,
        "a line of spaces": b"   \n" + line,
        "a quote": b'"' + line,
        "a quote inside": line[: len(line) // 2] + b'"' + line[len(line) // 2 :],
        "byte 0xff": line + b"\xff",
        "a NUL": line + b"\x00",
        "a carriage return": line + b"\r",
        "a carriage return inside": line[: len(line) // 2] + b"\r" + line[len(line) // 2 :],
        "a byte order mark": b"\xef\xbb\xbf" + line,
        "Latin-1": line + "\u00e9".encode("latin-1"),
        "null": b"null",
        "a list": b"[1, 2]",
        "a number": b"12",
        "deep nesting": DEEP.encode(),
        "an endless number": b'{"prompt": ' + HUGE.encode() + b', "completion": "x"}',
        "a comment": b"# text = x",
        "a range": b"1-2\tx\tO",
        "-DOCSTART-": b"-DOCSTART- -X- O",
        "a bare tag": line.rpartition(b" ")[0]
        + random.choice([b" B", b" I", b" B-", b" o", b" E-X"]),
    }
    what = random.choice(list(changes))
    changed = changes[what]
    lines[at : at + 1] = [] if changed is None else [changed]
    return f"line {at + 1}: {what}", b"\n".join(lines)


def _retype(rows: list[Row], random: Random) -> tuple[str, list[Row]]:
    """Return what was done, and rows with a value of another type, or a key lost or added."""
    rows = [dict(row) for row in rows]
    row = random.choice(rows)
    key = random.choice(list(row))
    what = random.choice(["type", "type", "type", "lose", "add", "every"])
    if what == "lose":
        del row[key]
    elif what == "add":
        row[random.choice(["text", "messages", "x", "", "input_ids"])] = random.choice(OTHER_TYPES)
    else:
        value = random.choice(OTHER_TYPES)
        for one in rows if what == "every" else [row]:
            one[key] = value
        return f"{key} of {what if what == 'every' else 'one'} row is {value!r:.30}", rows
    return f"a key to {what}", rows


def _compare(
    rows: list[Row] | None, keys: tuple[str, ...], limit: int | None = None
) -> Callable[[list[Outcome]], str | None]:
    """Return a check that what was read last is these rows, in any order.

    Rows with more characters than `limit` may be missing: they are not trained on.
    """

    def check(outcomes: list[Outcome]) -> str | None:
        if rows is None:
            return "a file that has to be refused was accepted"
        if not outcomes[-1].rows:
            return "no rows were read"
        read = [tuple(_plain(row.get(key)) for key in keys) for row in outcomes[-1].rows[-1]]
        meant = [tuple(_plain(row[key]) for key in keys) for row in rows]
        more, less = Counter(read) - Counter(meant), Counter(meant) - Counter(read)
        if limit is not None:
            less = Counter({row: n for row, n in less.items() if max(map(len, row)) <= limit})
        if not more and not less:
            return None
        return (
            f"read {list(more)[:1]!r:.80} for {list(less)[:1]!r:.80}; {len(read)} of {len(meant)}"
        )

    return check


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _train(task: str, *words: str) -> Words:
    return ["train", task, *words, "--output", "run", *MODEL, *TRAINING]


def _translate(*words: str) -> Words:
    # Words that are learned from so few sentences would not know those of dev.
    tokens = ["--task.source_tokens", "bytes", "--task.target_tokens", "bytes"]
    return _train("translation", *words, "--task.length", str(LENGTH), *tokens)


def _pairs(path: str) -> Words:
    return _train("pairs", "--data", path, "--task.target_tokens", "bytes")


def make_table(suffix: str) -> Maker:
    """Return what makes files of prompts and completions in a format."""

    def make(place: Place) -> Case:
        random = place.random
        columns = ("prompt", "completion")
        zipped = suffix != ".parquet" and random.random() < 0.25
        name = f"rows{suffix}{'.gz' * zipped}"
        rows = make_rows(random, columns, lines=suffix != ".tsv")
        change = random.choice(["nothing", "nothing", "bytes", "edit", "edit", "type", "rewritten"])
        if change == "type" and suffix in (".csv", ".tsv"):
            change = "edit"
        if change == "edit" and suffix == ".parquet":
            change = "bytes"
        path = Path(name)
        if change == "nothing":
            path.write_bytes(write_rows(rows, name, random))
            return Case("nothing", [_pairs(name)], _compare(rows, columns), good=True)
        if change == "rewritten":
            return _rewritten(path, rows, random, columns)
        if change == "type":
            what, rows = _retype(rows, random)
            try:
                raw = write_rows(rows, name, random)
            except Exception:  # parquet has one type in a column
                raw = write_rows([{"prompt": 1, "completion": 2}], name, random)
        else:
            raw = write_rows(rows, name.removesuffix(".gz"), random)
            if change == "edit":
                what, raw = _edit(raw, random)
                raw = gzip.compress(raw) if zipped else raw
            else:
                raw = gzip.compress(raw) if zipped else raw
                what, raw = damage_bytes(raw, random)
        path.write_bytes(raw)
        if suffix == ".parquet":
            return Case(what, [_pairs(name)])
        meant = readers.read(raw, name, columns)
        return Case(what, [_pairs(name)], _compare(meant, tuple(meant[0]) if meant else columns))

    return make


def _rewritten(path: Path, rows: list[Row], random: Random, columns: tuple[str, str]) -> Case:
    """A file that is rewritten after it was read, with the same size and time."""
    rows[0][columns[1]], state = "good", random.getstate()
    path.write_bytes(write_rows(rows, path.name, random))
    time = path.stat().st_mtime_ns
    changed = [{**row} for row in rows]
    changed[0][columns[1]] = "evil"

    def rewrite() -> None:
        random.setstate(state)
        path.write_bytes(write_rows(changed, path.name, random))
        os.utime(path, ns=(time, time))

    again = [word if word != "run" else "again" for word in _pairs(path.name)]
    steps = [lambda: None, rewrite]
    check = _compare(changed, columns)
    return Case(
        "rewritten at the same time", [_pairs(path.name), again], check, steps=steps, good=True
    )


def make_messages(place: Place) -> Case:
    """Make conversations for a model that has a chat template."""
    random = place.random
    rows = [
        {"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]}
        for p, c in (row.values() for row in make_rows(random, ("p", "c"), lines=True))
        if "</s>" not in p + c and len((p + c).encode()) < 24
    ]
    words = ["train", "pairs", "--data", "rows.jsonl", "--model", str(place.bases / "chat")]
    words += ["--output", "run", *TRAINING]
    if random.random() < 0.5:
        Path("rows.jsonl").write_bytes(write_rows(rows, "rows.jsonl", random))
        return Case("nothing", [words], _compare_messages(rows), good=True)
    row = random.choice(rows)
    holder: Any = random.choice([row, *row["messages"]])
    key = random.choice(list(holder))
    holder[key] = random.choice(OTHER_TYPES)
    Path("rows.jsonl").write_bytes(write_rows(rows, "rows.jsonl", random))
    return Case(f"{key} is {holder[key]!r:.30}", [words])


def _compare_messages(rows: list[Row]) -> Callable[[list[Outcome]], str | None]:
    def check(outcomes: list[Outcome]) -> str | None:
        read = [json.dumps(row["messages"], default=str) for row in outcomes[-1].rows[-1]]
        meant = [json.dumps(row["messages"]) for row in rows]
        wrong = list((Counter(read) - Counter(meant)).keys())
        return f"read {wrong[0]:.120}" if wrong or len(read) != len(meant) else None

    return check


def make_parallel(place: Place) -> Case:
    """Make a table of sentences and translations: plain, gzipped, or in a zip archive."""
    random = place.random
    columns = ("source", "target")
    rows = make_rows(random, columns, lines=False)
    raw = "".join(f"{row['source']}\t{row['target']}\n" for row in rows).encode()
    what, good = "nothing", True
    if random.random() < 0.6:
        what, raw = random.choice([_edit, damage_bytes])(raw, random)
        good = False
    header = b"source\ttarget\n"
    found = (
        readers.read(header + raw.removeprefix(b"\xef\xbb\xbf"), "x.tsv", columns) if raw else None
    )
    words = _translate("--data", "PATH")
    path = Path(random.choice(["table.tsv", "table.txt.gz", "table.zip"]))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(raw))
    elif path.suffix == ".zip":
        how, good = _zip(path, raw, place, good)
        what = f"{what}, {how}"
    else:
        path.write_bytes(raw)
    words[words.index("PATH")] = str(path)
    check = _compare(found, columns, LENGTH) if found or not good else _refused
    return Case(what, [words], check, good)


def _refused(outcomes: list[Outcome]) -> str | None:
    return "a file that has to be refused was accepted"


def _zip(path: Path, raw: bytes, place: Place, good: bool) -> tuple[str, bool]:
    """Write an archive with one table; return what is strange about it, and whether it is good."""
    random = place.random
    how = random.choice(["plain", "plain", "name", "bomb", "encrypted", "bytes", "two"])
    name = "rows.tsv"
    if how == "name":
        name = random.choice(
            ["./rows.tsv", "a//rows.tsv", "../rows.tsv", "/rows.tsv", "a/../rows.tsv"]
        )
    if how == "bomb":
        path.write_bytes((place.bases / "bomb.zip").read_bytes())
    with zipfile.ZipFile(path, "a" if how == "bomb" else "w") as archive:
        archive.writestr(name, raw)
        if how == "two":
            archive.writestr(name if random.random() < 0.5 else "other.tsv", raw)
    whole = bytearray(path.read_bytes())
    if how == "encrypted":
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            whole[whole.index(mark) + offset] |= 1
    if how == "bytes":
        _, whole = damage_bytes(bytes(whole), random)
    path.write_bytes(whole)
    return f"{how} archive", good and how in ("plain", "bomb")


def make_aligned(place: Place) -> Case:
    """Make two files whose lines are translations of each other."""
    random = place.random
    rows = make_rows(random, ("source", "target"), lines=False)
    what, good = "nothing", True
    sides = {}
    for side in ("source", "target"):
        sides[side] = "".join(f"{row[side]}\n" for row in rows).encode()
    if random.random() < 0.6:
        side = random.choice(list(sides))
        what, sides[side] = random.choice([_edit, damage_bytes])(sides[side], random)
        good = False
    for side, raw in sides.items():
        Path(side).write_bytes(raw)
    words = _translate("--task.train_source", "source", "--task.train_target", "target")
    found = _read_aligned(sides)
    check = _compare(found, ("source", "target"), LENGTH)
    return Case(what, [words], check, good)


def _read_aligned(sides: dict[str, bytes]) -> list[Row] | None:
    texts = []
    for raw in sides.values():
        try:
            lines = raw.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            return None
        texts.append([line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])])
    one, other = texts
    if len(one) != len(other) or not all(line.strip() for line in one + other):
        return None
    return [dict(zip(sides, pair, strict=True)) for pair in zip(one, other, strict=True)]


def make_tagged(place: Place) -> Case:
    """Make files in columns."""
    random = place.random
    tags = random.choice([["O", "B-X", "I-X"], ["O", "I-X", "I-Y", "B-Y"]])
    words = [text.replace(" ", "_") for text in TEXTS if text.isprintable() and "#" not in text]
    mark = random.choice([" ", "\t"])
    between = random.choice([" ", "\t"]) if mark == "\t" else mark
    parts = {}
    for name in ("train", "test"):
        sentences = []
        for number in range(12):
            tokens = [f"w{number}", *random.choices(words, k=random.randrange(1, 5))]
            lines = [f"{token}{mark}NN{mark}{random.choice(tags)}" for token in tokens]
            sentences.append("\n".join(lines))
        parts[name] = ("\n\n".join(sentences) + "\n").encode()
    what, good = "nothing", between == mark
    if random.random() < 0.6:
        what, parts["train"] = random.choice([_edit, damage_bytes])(parts["train"], random)
        good = False
    for name, raw in parts.items():
        Path(f"{name}.txt").write_bytes(raw)
    found = [readers.read_tagged(raw) for raw in parts.values()]
    rows = None if None in found else [row for part in found for row in part or ()]
    command = _train("tagging", "--task.train", "train.txt", "--task.test", "test.txt")
    return Case(what, [command], _compare(rows, ("tokens", "tags")), good)


def make_text(place: Place) -> Case:
    """Make running text."""
    random = place.random
    parts = [" ".join(random.choices(TEXTS, k=6)) + f" {number}" for number in range(30)]
    raw = "\n\n".join(parts).encode()
    what, good = "nothing", True
    if random.random() < 0.6:
        what, raw = random.choice([_edit, damage_bytes])(raw, random)
        good = False
    Path("text.txt").write_bytes(raw)
    words = _train("text", "--data", "text.txt", "--task.prompt", "4", "--task.length", "8")
    found = readers.read_paragraphs(raw)

    def check(outcomes: list[Outcome]) -> str | None:
        if found is None:
            return "a file that has to be refused was accepted"
        read = {row["text"] for row in outcomes[-1].rows[-1]}
        return None if read == set(found) else f"read {next(iter(read ^ set(found)))!r:.100}"

    return Case(what, [words], check, good)


def make_folder(place: Place) -> Case:
    """Make folders that the data set library reads, damaged or pointing outside."""
    random = place.random
    folder = Path("set")
    secret = {"prompt": "CANARY", "completion": "CANARY"}
    Path("secret.jsonl").write_text(json.dumps(secret) + "\n")
    rows = make_rows(random, ("prompt", "completion"), lines=True)
    kind = random.choice(["saved", "files", "readme", "link"])
    if kind == "saved":
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).save_to_disk(str(folder))
        path = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        if random.random() < 0.2:
            state = json.loads((folder / "state.json").read_text())
            outside = random.choice(["../secret.jsonl", str(Path("secret.jsonl").resolve())])
            state["_data_files"] = [{"filename": outside}]
            (folder / "state.json").write_text(json.dumps(state))
            what = "state.json points outside"
        else:
            what = f"{path.name}: {damage_file(path, None, random)}"
    else:
        folder.mkdir()
        Path(folder, "train.jsonl").write_bytes(write_rows(rows, "train.jsonl", random))
        what = kind
        if kind == "readme":
            outside = random.choice(["../secret.jsonl", str(Path("secret.jsonl").resolve())])
            text = (
                f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(outside)}\n---\n"
            )
            Path(folder, "README.md").write_text(text)
        elif kind == "link":
            Path(folder, "test.jsonl").symlink_to(Path("secret.jsonl").resolve())

    def check(outcomes: list[Outcome]) -> str | None:
        read = outcomes[-1].rows[-1] if outcomes[-1].rows else []
        return "a file outside was read" if secret in read and kind != "link" else None

    return Case(what, [_pairs("set")], check, good=what == "files")


def make_sources(place: Place) -> Case:
    """Make lines to predict from, of text or JSON."""
    random = place.random
    rows = make_rows(random, ("prompt", "x"), lines=False, count=6)
    prompts = [row["prompt"] for row in rows]
    spoken = random.random() < 0.5
    lines = [json.dumps({"prompt": p, "own": [1]}) for p in prompts] if spoken else prompts
    raw, what = ("\n".join(lines) + "\n").encode(), "nothing"
    if random.random() < 0.7:
        what, raw = random.choice([_edit, damage_bytes])(raw, random)
    Path("in.txt").write_bytes(raw)

    def check(outcomes: list[Outcome]) -> str | None:
        count = len(raw.removesuffix(b"\n").split(b"\n"))
        read = outcomes[-1].output.removesuffix("\n").split("\n")
        return None if len(read) == count else f"{len(read)} outputs for {count} lines"

    return Case(what, [["predict", str(place.bases / "recurrent"), "in.txt"]], check)


KINDS: dict[str, tuple[Maker, int]] = {
    "data: csv": (make_table(".csv"), 6),
    "data: tsv": (make_table(".tsv"), 5),
    "data: json": (make_table(".json"), 4),
    "data: jsonl": (make_table(".jsonl"), 6),
    "data: parquet": (make_table(".parquet"), 3),
    "data: messages": (make_messages, 2),
    "data: parallel": (make_parallel, 4),
    "data: aligned": (make_aligned, 3),
    "data: columns": (make_tagged, 4),
    "data: text": (make_text, 2),
    "data: folder": (make_folder, 3),
    "data: sources": (make_sources, 3),
}
"""What makes each kind of case, and how many of it there are among all."""
