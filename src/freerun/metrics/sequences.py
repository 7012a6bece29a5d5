"""Metrics that compare each output with its own reference: error rates and accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from freerun.imports import import_extra
from freerun.metrics.base import TokenRows, metric


@metric(form="cells", greater_is_better=False)
def hamming_error(outputs: TokenRows, references: TokenRows) -> float:
    """Compute the fraction of all cells that are wrong, in [0, 1].

    Raises:
        ValueError: if an output is not as long as its reference.
    """
    wrong = [find_cell_errors(*pair) for pair in zip(outputs, references, strict=True)]
    return sum(map(sum, wrong)) / max(sum(map(len, references)), 1)


@metric(form="cells")
def accuracy(outputs: TokenRows, references: TokenRows) -> float:
    """Compute the fraction of all cells that are right, in [0, 1].

    Raises:
        ValueError: if an output is not as long as its reference.
    """
    return 1 - hamming_error(outputs, references)


@metric(greater_is_better=False)
def character_error(outputs: Sequence[str], references: Sequence[str]) -> float:
    """Divide all edits by all characters of the references: 0 is perfect, over 1 is possible.

    The character error rate; edits are counted by rapidfuzz. A character is a Unicode code point,
    and `<unk>` is five of them. If all references are empty, edits are divided by 1.
    """
    return _edits(outputs, references)


@metric(form="tokens", greater_is_better=False)
def token_error(outputs: TokenRows, references: TokenRows) -> float:
    """Divide all edits by all tokens of the references: 0 is perfect, over 1 is possible.

    The word error rate, if tokens are words. If all references are empty, edits are divided by 1.
    """
    return _edits(outputs, references)


@metric()
def exact_match(outputs: Sequence[str], references: Sequence[str]) -> float:
    """Compute the fraction of outputs that equal their references, in [0, 1].

    Case and white space count, but for white space that the tokenizer does not keep.
    """
    pairs = zip(outputs, references, strict=True)
    return sum(output == reference for output, reference in pairs) / max(len(references), 1)


@metric(form="tags", library=("seqeval.metrics", "tagging"))
def chunk_f1(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """Compute the micro-averaged F1 of chunks, such as entities, by seqeval, in [0, 1].

    This equals the F1 of conlleval. An I- tag of an output that does not continue a chunk of its
    type begins one. If neither outputs nor references have a chunk, the F1 is 1.

    Raises:
        ValueError: if an output is not as long as its reference.
        MissingExtraError: if seqeval is not installed.
    """
    seqeval = import_extra("seqeval.metrics", "tagging", "the metric chunk_f1")
    tags = [list(row) for row in references], [list(row) for row in outputs]
    return float(seqeval.f1_score(*tags, zero_division=1))


def find_cell_errors(output: Sequence[object], reference: Sequence[object]) -> list[bool]:
    """Return for every cell of a reference whether the output is wrong there.

    Raises:
        ValueError: if the output is not as long as the reference.
    """
    if len(output) != len(reference):
        raise ValueError(
            f"an output of {len(output)} tokens for a reference of {len(reference)}; "
            "outputs of this task are as long as their sources"
        )
    return [one != other for one, other in zip(output, reference, strict=True)]


def find_aligned_errors(output: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """Return for every position of a reference whether the output is wrong there.

    Based on an alignment with the minimum number of edits: a position is wrong if its token was
    substituted or deleted, or if something was inserted before it; the last position also if
    something was inserted after it.
    """
    wrong = [False] * len(reference)
    for edit in Levenshtein.editops(reference, output) if wrong else ():
        wrong[min(edit.src_pos, len(wrong) - 1)] = True
    return wrong


def find_first_errors(output: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """Return for every position of a reference whether the output has another token there, or none.

    There is no alignment: this shows how soon an output departs from the reference, not how bad it
    is.
    """
    there = [*output[: len(reference)], *[None] * (len(reference) - len(output))]
    return [token != right for token, right in zip(there, reference, strict=True)]


def _edits(outputs: Sequence[Sequence[object]], references: Sequence[Sequence[object]]) -> float:
    pairs = zip(outputs, references, strict=True)
    edits = sum(Levenshtein.distance(output, reference) for output, reference in pairs)
    return edits / max(sum(map(len, references)), 1)
