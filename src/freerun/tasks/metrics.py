"""What is reported of outputs: shares of errors, by standard libraries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

Sequences = Sequence[Sequence[int]]
Texts = Sequences | Sequence[str]
"""Outputs as tokens, or as text."""


def hamming_error(hypotheses: Sequences, references: Sequences) -> float:
    """The share of all cells that are wrong, in [0, 1].

    Raises:
        ValueError: where an output is not as long as its reference.
    """
    wrong = total = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        wrong += sum(cell_errors(hypothesis, reference))
        total += len(reference)
    return wrong / max(total, 1)


def character_error(hypotheses: Texts, references: Texts) -> float:
    """All edits, divided by all characters of the references: 0 is perfect, over 1 is possible."""
    pairs = zip(hypotheses, references, strict=True)
    edits = sum(Levenshtein.distance(hypothesis, reference) for hypothesis, reference in pairs)
    return edits / max(sum(map(len, references)), 1)


def exact_match(hypotheses: Texts, references: Texts) -> float:
    """The share of outputs that equal their references, in [0, 1]."""
    pairs = zip(hypotheses, references, strict=True)
    equal = sum(list(hypothesis) == list(reference) for hypothesis, reference in pairs)
    return equal / max(len(references), 1)


def cell_errors(hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """For every cell of a fixed-length reference, whether the output is wrong there.

    Raises:
        ValueError: where the output is not as long as the reference.
    """
    if len(hypothesis) != len(reference):
        raise ValueError(
            f"an output of {len(hypothesis)} tokens for a reference of {len(reference)}; "
            "outputs of this task are as long as their sources"
        )
    return [h != r for h, r in zip(hypothesis, reference, strict=True)]


def aligned_errors(hypothesis: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """For every position of the reference, whether the output is wrong there.

    By an alignment with the fewest edits: a position is wrong where its token was substituted or
    left out, or where something was inserted before it; the last one also where something was
    inserted after it.
    """
    wrong = [False] * len(reference)
    for edit in Levenshtein.editops(reference, hypothesis) if wrong else ():
        wrong[min(edit.src_pos, len(wrong) - 1)] = True
    return wrong


def commonest(references: Sequences) -> int:
    """The token that comes most often; the smallest of several."""
    counts = Counter(token for reference in references for token in reference)
    return min(counts, key=lambda token: (-counts[token], token))


def constant_guesses(train: Sequences) -> list[list[int]]:
    """Two outputs that never look at a source.

    They are the commonest token of training at every position, up to the median length, and the
    commonest target.
    """
    rows = [tuple(reference) for reference in train]
    median = sorted(map(len, rows))[len(rows) // 2]
    at_position = [commonest([row[i : i + 1] for row in rows]) for i in range(median)]
    whole = Counter(rows).most_common(1)[0][0]
    return [at_position, list(whole)]
