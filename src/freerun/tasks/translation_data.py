"""The pairs that a translation task is given, and what a user should know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from freerun.data import DataError
from freerun.data.files import is_dataset, load_splits
from freerun.data.parallel import Columns, Pair, read_aligned, read_rows, read_table
from freerun.data.pieces import Words
from freerun.data.splits import shared
from freerun.data.store import Ragged, Tokens
from freerun.vocabulary import Vocabulary

Files = Mapping[str, tuple[str | None, str | None]]
"""For train, dev and test, the file of the sources and that of the targets."""


def read_parts(
    data: str | None, files: Files, columns: Columns, subset: str | None
) -> dict[str, list[Pair]]:
    """The pairs of every split that is given.

    Args:
        data: a file with both sides, or a dataset; None where there are `files`.
        files: the files of each split.
        columns: where the sides stand in `data`.
        subset: the part of a dataset.

    Raises:
        DataError: naming the file, the line and what would be right.
        MissingExtraError: where `datasets` is needed and not installed.
    """
    if data is not None and is_dataset(data):
        return {
            name: read_rows(rows, f"{data} ({name})", columns)
            for name, rows in load_splits(data, subset).items()
        }
    if subset is not None:
        raise DataError(f"{data or files['train'][0]}: it is a file, and has no subset {subset!r}")
    if data is not None:
        return {"train": read_table(data, columns)}
    return {
        name: read_aligned(source, target)
        for name, (source, target) in files.items()
        if source and target
    }


def short(pairs: Sequence[Pair], length: int, words: Words) -> list[Pair]:
    """The pairs with at most `length` words and punctuation marks on either side."""
    return [pair for pair in pairs if all(words.count(side) <= length for side in pair)]


def overlaps(parts: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Notes on sentences that stand in two splits."""
    notes = []
    for one, other in (("test", "train"), ("test", "dev"), ("dev", "train")):
        pairs, others = parts[one], parts[other]
        sources = shared((p.source for p in pairs), (p.source for p in others))
        targets = shared((p.target for p in pairs), (p.target for p in others))
        notes.append(
            f"of the {len(pairs)} pairs of {one}, {sources} have a source that also stands in "
            f"{other}, {targets} a target, {shared(pairs, others)} both"
        )
    return notes


def known(side: str, vocabulary: Vocabulary, test: Ragged) -> str:
    """A note on how many words are known of a side, or how many byte-pair tokens it has."""
    symbols = vocabulary.actions - (vocabulary.eos is not None)
    if vocabulary.unknown is None:
        return f"{side}: {symbols} byte-pair tokens"
    tokens = [token for row in Tokens(test) for token in row]
    share = tokens.count(vocabulary.unknown) / len(tokens)
    return f"{side}: {symbols - 1} words are known; {share:.1%} of the words of test are not"
