"""Choose examples for a report, and mark where outputs differ from references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rapidfuzz.distance import Levenshtein

from freerun.metrics import METRICS
from freerun.report.page import Example, Group, Piece

PER_GROUP = 3
"""The maximum number of examples that are shown for the same reason."""
LONGEST = 1_000
"""The maximum number of characters that are shown of a text."""

Outputs = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of outputs.jsonl of every method, with the same seed."""


def choose_examples(
    outputs: Outputs, metric: str, base: str | None = None, best: str | None = None
) -> list[Group]:
    """Choose examples to show.

    Args:
        outputs: the outputs; all methods have the same examples.
        metric: the first metric of the task: a text need not be like its reference, and errors of
            characters are shown by characters.
        base: the baseline, if there is one.
        best: the method that is compared with it.
    """
    known = METRICS.get(metric)
    if known is not None and known.corpus:
        return choose_first(outputs)
    by_words = metric != "character_error" and any(
        " " in row["reference"] for row in next(iter(outputs.values()))
    )
    return choose_groups(outputs, base, best, by_words=by_words)


def choose_groups(
    outputs: Outputs, base: str | None, best: str | None, *, by_words: bool
) -> list[Group]:
    """Choose examples where the best method is better and worse, typical examples, and the worst.

    An example is shown once. Typical ones have about the median number of errors, over all methods.

    Args:
        outputs: the outputs; all methods have the same examples.
        base: the baseline, if there is one.
        best: the method that is compared with it.
        by_words: whether differences are marked by words instead of characters.
    """
    errors = {name: [int(row["errors"]) for row in rows] for name, rows in outputs.items()}
    totals = [sum(column) for column in zip(*errors.values(), strict=True)]
    references = [str(row["reference"]) for row in next(iter(outputs.values()), [])]
    middle = median(totals) if totals else 0
    # Every group shows the examples with the highest numbers above its limit.
    groups: list[tuple[str, list[float], float]] = []
    if base in errors and best in errors and base != best:
        pairs = zip(errors[str(base)], errors[str(best)], strict=True)
        gains: list[float] = [other - own for other, own in pairs]
        groups += [
            (f"Where {best} is better than {base} by most", gains, 0),
            (f"Where {best} is worse than {base} by most", [-gain for gain in gains], 0),
        ]
    groups += [
        ("Typical", [-abs(total - middle) for total in totals], -math.inf),
        ("Worst", list(map(float, totals)), 0),
    ]
    found: list[Group] = []
    shown: set[int] = set()
    for title, numbers, limit in groups:
        there = [i for i, number in enumerate(numbers) if number > limit and i not in shown]
        # Of examples with the same reference, one is enough.
        different: dict[str, int] = {}
        for i in sorted(there, key=numbers.__getitem__, reverse=True):
            different.setdefault(references[i], i)
        chosen = list(different.values())[:PER_GROUP]
        shown |= set(chosen)
        if chosen:
            examples = [_make_example(i, outputs, by_words) for i in chosen]
            found.append(Group(title, examples))
    return found


def choose_first(outputs: Outputs) -> list[Group]:
    """Choose the first examples, whose outputs are not compared with references."""
    count = min(map(len, outputs.values()), default=0)
    examples = [_make_example(i, outputs, None) for i in range(min(count, PER_GROUP))]
    return [Group("The first examples", examples)] if examples else []


def _make_example(i: int, outputs: Outputs, by_words: bool | None) -> Example:
    """Return an example; differences are not marked if `by_words` is None."""
    first = next(iter(outputs.values()))[i]
    reference, source = str(first["reference"]), first["source"]
    return Example(
        i + 1,
        None if source is None else _cut(str(source)),
        _cut(reference),
        {
            name: (None, [Piece("same", _cut(rows[i]["output"]))])
            if by_words is None
            else (
                int(rows[i]["errors"]),
                mark_differences(_cut(rows[i]["output"]), _cut(reference), by_words=by_words),
            )
            for name, rows in outputs.items()
        },
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def mark_differences(output: str, reference: str, *, by_words: bool) -> list[Piece]:
    """Split an output where it differs from its reference, by the minimum number of edits.

    Args:
        output: the output.
        reference: the reference.
        by_words: whether to compare words, between spaces, instead of characters.
    """
    own: Sequence[str] = output.split(" ") if by_words else output
    right: Sequence[str] = reference.split(" ") if by_words else reference
    between = " " if by_words else ""
    pieces: list[Piece] = []
    for edit in Levenshtein.opcodes(right, own):
        if edit.tag == "delete":
            kind, part = "missing", right[edit.src_start : edit.src_end]
        else:
            kind = "same" if edit.tag == "equal" else "wrong"
            part = own[edit.dest_start : edit.dest_end]
        if pieces and by_words:
            pieces.append(Piece("same", " "))
        pieces.append(Piece(kind, between.join(part)))
    return pieces
