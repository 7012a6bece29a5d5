"""Tagged sentences in column files, one token per line, as of the CoNLL tasks, or datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from freerun.data.files import (
    Line,
    LineGroup,
    decompress,
    group_lines,
    list_archive,
    read_archive,
    read_bytes,
)
from freerun.data.folders import check_inside, find_split
from freerun.data.rows import Row
from freerun.data.splits import count_shared
from freerun.data.tables import FORMATS, FileRow, Table
from freerun.errors import DataError

_OTHER = {*FORMATS, ".md", ".py", ".zip"}
_TAG = re.compile(r"O|[BI](-.+)?")
_UNIVERSAL = re.compile(r"\d+[-.]\d+")
"""The number of a range of words, or of an empty node, in CoNLL-U."""

_LABELS = ("ner_tags", "tags", "labels", "chunk_tags")


@dataclass(frozen=True)
class Sentence:
    """A tagged sentence.

    Args:
        tokens: its words.
        tags: their tags, in IOB2; () if only tokens were read.
        name: the file, or the split of a dataset, from which it was read.
        places: the place of each token in it, such as "line 7".
        changed: the number of I- tags that begin an entity, and were read as B-.
        lines: the lines of the file.
    """

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    name: str
    places: tuple[str, ...]
    changed: int = 0
    lines: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The sentence as a row with the columns `tokens` and `tags`."""
        return {
            "tokens": self.tokens,
            "tags": self.tags,
            "where": self.name,
            "places": self.places,
            "lines": self.lines,
        }

    @classmethod
    def from_tags(
        cls,
        tokens: Sequence[str],
        tags: Sequence[str],
        name: str,
        places: Sequence[str],
        lines: Sequence[str] = (),
    ) -> Sentence:
        """Build a sentence from IOB1 or IOB2 tags, or without tags.

        Both are read as IOB2: an I- tag that does not continue an entity of its type begins one.

        Raises:
            DataError: if a tag is neither O nor B-TYPE nor I-TYPE; B and I alone
                are of the type without a name.
        """
        before, read = "O", []
        for tag, place in zip(tags, places, strict=bool(tags)):
            if not _TAG.fullmatch(tag):
                raise DataError(f"{name}, {place}: the tag {tag!r} is not O, B-TYPE or I-TYPE")
            begins = tag[0] == "I" and (before == "O" or before[1:] != tag[1:])
            read.append(f"B{tag[1:]}" if begins else tag)
            before = tag
        changed = sum(new != old for new, old in zip(read, tags, strict=True))
        return cls(tuple(tokens), tuple(read), name, tuple(places), changed, tuple(lines))


def read_sentences(
    lines: Iterable[Line], name: str, token_column: int, tag_column: int | None
) -> list[Sentence]:
    """Read the sentences of a column file: one token per line, sentences separated by blank lines.

    Columns are separated by tabs where the first token's line has any, else by spaces. Lines that
    begin with -DOCSTART- only separate sentences. Where words are numbered, as in CoNLL-U,
    comments, ranges of words and empty nodes are left out.

    Args:
        lines: the lines, with their numbers.
        name: the file's name, for messages.
        token_column: the column of the token, counted from 0, or from the end where negative.
        tag_column: the column of the tag, likewise; None reads tokens only.

    Raises:
        DataError: if a line has not as many columns as the first, a column is missing or empty,
            a tag is not one, all tokens are the numbers of words, or there is no sentence.
    """
    groups = group_lines((n, "" if line.startswith("-DOCSTART-") else line) for n, line in lines)
    groups = _leave_out_comments(groups, token_column)
    if not groups:
        raise DataError(f"{name}: there is no sentence in it")
    number, line = groups[0].lines[0]
    separator = "\t" if "\t" in line else None
    width = len(_cells(line, separator))
    wanted = [token_column] if tag_column is None else [token_column, tag_column]
    for index in wanted:
        if not -width <= index < width:
            raise DataError(
                f"{name}, line {number}: no column {index}; there are {width}, counted from 0"
            )
    if len({index % width for index in wanted}) < len(wanted):
        raise DataError(f"{name}, line {number}: one column; a token and a tag are needed")
    found = [_sentence(group, name, wanted, separator, width) for group in groups]
    if width > 1 and max(len(each.tokens) for each in found) > 1 and all(map(_counts, found)):
        raise DataError(
            f"{name}, line {number}: column {token_column} has the numbers of the words; set "
            "token_column to that of the words"
        )
    return found


def _counts(sentence: Sentence) -> bool:
    """Return whether the tokens of a sentence are 1, 2, and so on."""
    return all(token == str(number) for number, token in enumerate(sentence.tokens, 1))


def _leave_out_comments(groups: Sequence[LineGroup], token_column: int) -> list[LineGroup]:
    """Leave out lines with numbers that are not words: comments, ranges of words, and empty nodes.

    Words are numbered if the first line without # has columns between tabs, of which the first is
    a number in CoNLL-U, which has ten columns, and elsewhere 0 or 1 and not the token.
    """
    first = next((s for group in groups for s in group.text if not s.startswith("#")), "")
    cells = first.split("\t")
    own = len(cells) > 1 and token_column % len(cells) != 0
    number = cells[0].partition("-")[0].partition(".")[0]
    if not (number.isdecimal() if len(cells) == 10 else own and number in ("0", "1")):
        return list(groups)
    kept = [
        LineGroup([line for line in group.lines if not _is_no_word(line[1])]) for group in groups
    ]
    return [group for group in kept if group.lines]


def _is_no_word(line: str) -> bool:
    return line.startswith("#") or _UNIVERSAL.fullmatch(line.partition("\t")[0]) is not None


def _sentence(
    group: LineGroup, name: str, wanted: list[int], separator: str | None, width: int
) -> Sentence:
    """Parse the consecutive lines of a sentence."""
    rows = []
    for number, line in group.lines:
        cells = _cells(line, separator)
        if len(cells) != width:
            columns = f"{len(cells)} column{'s' if len(cells) > 1 else ''}"
            raise DataError(f"{name}, line {number}: {columns}; the first sentence has {width}")
        for what, index in zip(("token", "tag"), wanted, strict=False):
            if not cells[index]:
                raise DataError(f"{name}, line {number}: the {what} is empty")
        rows.append([cells[index] for index in wanted])
    tokens, *tags = zip(*rows, strict=True)
    places = [f"line {number}" for number, _ in group.lines]
    return Sentence.from_tags(tokens, tags[0] if tags else (), name, places, group.text)


def _cells(line: str, separator: str | None) -> list[str]:
    """Split a line into columns, at tabs or at runs of spaces."""
    if separator:
        return [cell.strip(" ") for cell in line.split(separator)]
    return [cell for cell in line.split(" ") if cell]


def find_files(data: str) -> dict[str, tuple[str, bytes]]:
    """Find the column files in a folder or a zip archive; return names and contents by split.

    The name of a file must contain the split as a word: train; dev, valid or testa; test or testb.
    Files with extensions of other formats are ignored.

    Raises:
        DataError: if two files belong to one split, a file lies outside of the folder, or the
            archive is broken.
    """
    folder = Path(data)
    if folder.is_dir():
        names = [path.name for path in folder.iterdir() if path.is_file()]
        found = _choose_files(names, data)
        for name in found.values():
            check_inside(folder / name, folder)
        contents = {name: read_bytes(str(folder / name)) for name in found.values()}
    else:
        found = _choose_files(list_archive(data), data)
        contents = read_archive(data, {*found.values()}.__contains__)
    where = {split: str(folder / name) for split, name in found.items()}
    return {
        split: (where[split], decompress(contents[name], where[split]))
        for split, name in found.items()
    }


def _choose_files(names: Iterable[str], data: str) -> dict[str, str]:
    """Return the name of the file of every split."""
    found: dict[str, str] = {}
    for name in sorted(names):
        path = PurePath(name)
        if path.name.startswith(".") or "__MACOSX" in path.parts or path.suffix in _OTHER:
            continue
        split = find_split(path.name)
        if split in found:
            raise DataError(
                f"{data}: both {found[split]} and {name} may be the {split} file; "
                f"choose one with {split}="
            )
        if split is not None:
            found[split] = name
    return found


def extract_sentences(table: Table, label_column: str | None) -> list[Sentence]:
    """Read the sentences of a table: `tokens`, and `label_column` or a usual name.

    Raises:
        DataError: if a column or row is wrong. The message names it.
    """
    tokens = table.find_column(["tokens"])
    labels = table.find_column([label_column] if label_column else _LABELS)
    classes = table.classes.get(labels)
    sentences = []
    for row in table.rows:
        words, tags = (_read_list(row, column) for column in (tokens, labels))
        if not words:
            raise DataError(f"{row.place}: the sentence is empty")
        if len(words) != len(tags):
            raise DataError(f"{row.place}: {len(words)} tokens and {len(tags)} {labels}")
        if classes:
            tags = [_name_class(tag, classes, f"{row.place}: {labels}") for tag in tags]
        if not all(isinstance(word, str) for word in words):
            raise DataError(f"{row.place}: {tokens} has a value that is not text")
        if not all(isinstance(tag, str) for tag in tags):
            raise DataError(f"{row.place}: {labels} holds numbers without names; it must hold text")
        places = [f"token {i}" for i in range(len(words))]
        sentences.append(Sentence.from_tags(words, tags, row.place, places))
    return sentences


def _read_list(row: FileRow, column: str) -> list[Any]:
    values = row.get(column)
    if not isinstance(values, list):
        raise DataError(f"{row.place}: {column} is {values!r:.40}; it must be a list")
    return values


def _name_class(number: object, classes: Sequence[str], where: str) -> str:
    if not isinstance(number, int) or not 0 <= number < len(classes):
        raise DataError(f"{where} has {number!r:.20}; its classes are 0 to {len(classes) - 1}")
    return classes[number]


def note_shared_sentences(parts: Mapping[str, Sequence[Sentence]]) -> list[str]:
    """Return notes on sentences that are in two of the given splits."""
    notes = []
    for one, other in (("test", "train"), ("test", "dev"), ("dev", "train")):
        if one in parts and other in parts:
            count = count_shared(*([s.tokens for s in parts[name]] for name in (one, other)))
            alike = count_shared(
                *([(s.tokens, s.tags) for s in parts[name]] for name in (one, other))
            )
            notes.append(
                f"{count} of {len(parts[one])} sentences of {one} are also in {other}, "
                f"{alike} of them with the same tags"
            )
    return notes
