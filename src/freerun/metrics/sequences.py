"""Metrics that compare each output with its own reference: error rates and accuracies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from freerun.imports import import_extra
from freerun.metrics.base import TokenRows, metric
from freerun.metrics.statistics import Statistics, Sums, Values, divide_sums


@metric(form="cells", greater_is_better=False)
def hamming_error(outputs: TokenRows, references: TokenRows) -> Statistics:
    """Compute the fraction of all cells that are wrong, in [0, 1].

    Raises:
        ValueError: if an output is not as long as its reference.
    """
    return _count_cell_errors(outputs, references, divide_sums)


@metric(form="cells")
def accuracy(outputs: TokenRows, references: TokenRows) -> Statistics:
    """Compute the fraction of all cells that are right, in [0, 1].

    Raises:
        ValueError: if an output is not as long as its reference.
    """
    return _count_cell_errors(outputs, references, _subtract_from_one)


@metric(greater_is_better=False)
def character_error(outputs: Sequence[str], references: Sequence[str]) -> Statistics:
    """Compute all edits divided by all characters of references: 0 is perfect, over 1 is possible.

    The character error rate; edits are counted by rapidfuzz. A character is a Unicode code point,
    and `<unk>` is five of them. If all references are empty, edits are divided by 1.
    """
    return _count_edits(outputs, references)


@metric(form="tokens", greater_is_better=False)
def token_error(outputs: TokenRows, references: TokenRows) -> Statistics:
    """Compute all edits divided by all tokens of references: 0 is perfect, over 1 is possible.

    The word error rate, if tokens are words. If all references are empty, edits are divided by 1.
    """
    return _count_edits(outputs, references)


@metric()
def exact_match(outputs: Sequence[str], references: Sequence[str]) -> Statistics:
    """Compute the fraction of outputs that equal their references, in [0, 1].

    Case and white space count, except white space that the tokenizer does not preserve.
    """
    pairs = zip(outputs, references, strict=True)
    return Statistics.build([(output == text, 1) for output, text in pairs], 2, divide_sums)


@metric(greater_is_better=False)
def sequence_error(outputs: Sequence[str], references: Sequence[str]) -> Statistics:
    """Compute the fraction of outputs that differ from their references, in [0, 1].

    This is 1 - `exact_match`: the word error rate of grapheme-to-phoneme conversion, where an
    output is the pronunciation of a word.
    """
    pairs = zip(outputs, references, strict=True)
    return Statistics.build([(output != text, 1) for output, text in pairs], 2, divide_sums)


@metric(form="tags", library=("seqeval.metrics", "tagging"))
def chunk_f1(outputs: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Statistics:
    """Compute the micro-averaged F1 of chunks, such as entities, with seqeval, in [0, 1].

    This equals the F1 of conlleval. An I- tag of an output that does not continue a chunk of its
    type begins one. If neither outputs nor references have a chunk, the F1 is 1.

    Raises:
        ValueError: if an output is not as long as its reference.
        MissingExtraError: if seqeval is not installed.
    """
    seqeval = import_extra("seqeval.metrics.sequence_labeling", "tagging", "the metric chunk_f1")
    rows = []
    for output, reference in zip(outputs, references, strict=True):
        check_equal_length(output, reference)
        found, wanted = (set(seqeval.get_entities(list(row))) for row in (output, reference))
        rows.append((len(found & wanted), len(found), len(wanted)))
    return Statistics.build(rows, 3, _find_f1)


def _find_f1(sums: Sums) -> Values:
    """Compute the F1 of the numbers of right, found and wanted chunks."""
    right, found, wanted = sums.T
    return np.where(found + wanted > 0, 2 * right / np.maximum(found + wanted, 1), 1.0)


def find_cell_errors(output: Sequence[object], reference: Sequence[object]) -> list[bool]:
    """Return for every cell of a reference whether the output is wrong there.

    Raises:
        ValueError: if the output is not as long as the reference.
    """
    check_equal_length(output, reference)
    return [one != other for one, other in zip(output, reference, strict=True)]


def check_equal_length(output: Sequence[object], reference: Sequence[object]) -> None:
    """Check that an output is as long as its reference.

    Raises:
        ValueError: if it is not.
    """
    if len(output) != len(reference):
        raise ValueError(
            f"an output of {len(output)} tokens for a reference of {len(reference)}; "
            "outputs of this task are as long as their sources"
        )


def find_aligned_errors(output: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """Return for every position of a reference whether the output is wrong there.

    Output and reference are aligned by the minimum number of edits: a position is wrong if its
    token was substituted or deleted, or if a token was inserted before it; the last position also
    if a token was inserted after it.
    """
    wrong = [False] * len(reference)
    for edit in Levenshtein.editops(reference, output) if wrong else ():
        wrong[min(edit.src_pos, len(wrong) - 1)] = True
    return wrong


def find_first_errors(output: Sequence[int], reference: Sequence[int]) -> list[bool]:
    """Return for every position of a reference whether the output has another or no token there.

    Without an alignment, this shows how soon an output departs from the reference, not its quality.
    """
    there = [*output[: len(reference)], *[None] * (len(reference) - len(output))]
    return [token != right for token, right in zip(there, reference, strict=True)]


def _subtract_from_one(sums: Sums) -> Values:
    return 1 - divide_sums(sums)


def _count_cell_errors(
    outputs: TokenRows, references: TokenRows, compute: Callable[[Sums], Values]
) -> Statistics:
    pairs = zip(outputs, references, strict=True)
    rows = [(sum(find_cell_errors(*pair)), len(pair[1])) for pair in pairs]
    return Statistics.build(rows, 2, compute)


def _count_edits(
    outputs: Sequence[Sequence[object]], references: Sequence[Sequence[object]]
) -> Statistics:
    pairs = zip(outputs, references, strict=True)
    rows = [(Levenshtein.distance(*pair), len(pair[1])) for pair in pairs]
    return Statistics.build(rows, 2, divide_sums)
