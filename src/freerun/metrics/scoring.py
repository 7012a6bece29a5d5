"""Compute the metrics of a policy's outputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from rapidfuzz.distance import Hamming, Levenshtein

from freerun.data import Codec, Data, Examples, TextCodec, TextExamples
from freerun.data.store import StoredExamples, TokenSequences
from freerun.metrics.base import Form, Metric, TokenRows
from freerun.metrics.sequences import find_aligned_errors, find_cell_errors, find_first_errors
from freerun.metrics.statistics import Statistics
from freerun.randomness import permutation
from freerun.settings import SettingError

Metrics = Mapping[str, Metric]
"""Metrics by name; the first is the headline."""

TRIAL_SIZE = 4
"""The number of examples on which metrics are tried before training."""

_TAG = re.compile(r"O|[BI](-.+)?|<unk>")


def check_metrics(metrics: Metrics, codec: Codec) -> None:
    """Check that metrics can be computed for the outputs of a codec.

    Raises:
        SettingError: if a metric cannot be computed, or neither direction of the headline metric is
            better. The message names the metric.
        DataError: if a metric needs a model or file that cannot be read.
    """
    headline = get_headline(metrics)
    if headline.greater_is_better is None:
        raise SettingError(
            f"the first metric, {headline.name}, has no better direction; put another metric first"
        )
    tags = all(_TAG.fullmatch(symbol) for symbol in codec.target.symbols)
    lacking: dict[Form, str | None] = {
        "cells": None if codec.target.eos is None else "are as long as their sources",
        "tags": None if tags else "are tags O, B-TYPE and I-TYPE",
        "passages": None if codec.shared else "continue their sources, in the same tokens",
        "corrections": None if isinstance(codec, TextCodec) else "correct sources that are text",
    }
    for name, metric in metrics.items():
        if (what := lacking.get(metric.form)) is not None:
            raise SettingError(f"metric {name!r}: it needs outputs that {what}")
        if metric.check is not None:
            metric.check(**metric.settings)


def get_headline(metrics: Metrics) -> Metric:
    """Return the metric by which checkpoints are chosen: the first."""
    return next(iter(metrics.values()))


def list_signatures(metrics: Metrics, codec: Codec, examples: Examples) -> dict[str, str]:
    """Return the signatures of metrics whose values are not comparable without them.

    Args:
        metrics: the metrics.
        codec: the codec of the model.
        examples: the examples of the outputs.
    """
    found = {}
    for name, metric in metrics.items():
        if metric.sign is not None:
            convert, own = _FORMS[metric.form], examples.references
            sides = [convert(codec, own, each)[1] for each in _list_variants(examples)]
            found[name] = metric.get_signature(metric.group_references(sides))
    return {name: signature for name, signature in found.items() if signature is not None}


def try_metrics(metrics: Metrics, codec: Codec, examples: Examples) -> None:
    """Score a few references against themselves, so that errors occur before training.

    Raises:
        Exception: any exception that a metric raises.
    """
    if isinstance(examples, StoredExamples):
        examples = examples.take(TRIAL_SIZE)
    actions = codec.target.actions  # what is not among them, no model writes
    outputs = [[token if token < actions else 0 for token in row] for row in examples.references]
    score(metrics, codec, outputs, examples)


def score(
    metrics: Metrics, codec: Codec, outputs: TokenRows, examples: Examples
) -> dict[str, float]:
    """Compute the values of `measure`."""
    found = measure(metrics, codec, outputs, examples)
    return {name: value for name, (value, _) in found.items()}


def measure(
    metrics: Metrics, codec: Codec, outputs: TokenRows, examples: Examples
) -> dict[str, tuple[float, Statistics | None]]:
    """Compute metrics of free-running outputs.

    Args:
        metrics: the metrics.
        codec: the codec of the model.
        outputs: the tokens of an output for each example, without eos.
        examples: the examples.

    Returns:
        The value of every metric, and its statistics, if it is computed from those of examples.
    """
    forms: dict[tuple[Form, bool], tuple[Sequence[Any], list[Sequence[Any]]]] = {}
    found = {}
    for name, metric in metrics.items():
        key = metric.form, metric.corpus
        if key not in forms:
            written = _cut_off(outputs, codec) if metric.corpus else outputs
            convert = _FORMS[metric.form]
            sides = [convert(codec, written, each) for each in _list_variants(examples)]
            forms[key] = sides[0][0], [references for _, references in sides]
        found[name] = metric.measure_best(*forms[key])
    return found


def _list_variants(examples: Examples) -> list[Examples]:
    """Return the examples with each of their references."""
    return [examples, *(examples.others if isinstance(examples, TextExamples) else ())]


def find_position_errors(
    metrics: Metrics, codec: Codec, outputs: TokenRows, examples: Examples
) -> list[list[bool]]:
    """Return for every position of every reference whether the output is wrong there.

    If outputs are as long as their sources, cells are compared. Otherwise outputs are aligned with
    their references by the minimum number of edits (see `find_aligned_errors`), unless the headline
    metric compares all outputs together, as for open-ended text (see `find_first_errors`). `<unk>`
    is always wrong. If an example has several references, the one with the fewest errors counts.
    """
    errors: Callable[[Sequence[int], Sequence[int]], list[bool]] = find_aligned_errors
    if codec.target.eos is None:
        errors = find_cell_errors
    elif get_headline(metrics).corpus:
        errors = find_first_errors
    sides = [_tokens(codec, outputs, each)[1] for each in _list_variants(examples)]
    return [
        min((errors(output, reference) for reference in references), key=sum)
        for output, *references in zip(outputs, *sides, strict=True)
    ]


def count_errors(codec: Codec, outputs: TokenRows, examples: Examples) -> list[int]:
    """Return for every example the number of errors of its output, in tokens.

    This is the edit distance to the reference, or the number of wrong cells if outputs are as long
    as their sources. `<unk>` is always wrong. The closest of several references counts.
    """
    count = Levenshtein.distance if codec.target.eos is not None else Hamming.distance
    sides = [_tokens(codec, outputs, each)[1] for each in _list_variants(examples)]
    return [
        min(count(output, reference) for reference in references)
        for output, *references in zip(outputs, *sides, strict=True)
    ]


def score_majority_guess(metrics: Metrics, data: Data) -> dict[str, float]:
    """Compute the metrics on the test set of guesses that ignore the source.

    If outputs are as long as their sources, the guess is the token that is most frequent in
    training, in every cell. Otherwise it is a single output for all sources, the better of two on
    dev (see `make_constant_guesses`), unless the headline metric compares all outputs together:
    then the guesses are training targets in random order.
    """
    train, headline = data.train.references, get_headline(metrics)
    if data.codec.target.eos is None:
        token = find_most_common_token(train)
        outputs = [[token] * len(reference) for reference in data.test.references]
    elif headline.corpus:
        order = permutation(len(train), 0, "text majority").tolist()
        outputs = [list(train[order[i % len(order)]]) for i in range(len(data.test))]
    else:

        def on_dev(guess: list[int]) -> float:
            only = {headline.name: headline}
            found = score(only, data.codec, [guess] * len(data.dev), data.dev)[headline.name]
            return found if headline.greater_is_better else -found

        outputs = [max(make_constant_guesses(list(train)), key=on_dev)] * len(data.test)
    return score(metrics, data.codec, outputs, data.test)


def find_most_common_token(references: TokenRows) -> int:
    """Return the most frequent token; in case of ties, the smallest."""
    counts = Counter(token for reference in references for token in reference)
    return min(counts, key=lambda token: (-counts[token], token))


def make_constant_guesses(train: TokenRows) -> list[list[int]]:
    """Return two outputs that ignore the source.

    One consists of the token that is most frequent in training at every position, up to the median
    length; the other is the most frequent target.
    """
    rows = [tuple(reference) for reference in train]
    median = sorted(map(len, rows))[len(rows) // 2]
    at_position = [find_most_common_token([row[i : i + 1] for row in rows]) for i in range(median)]
    whole = Counter(rows).most_common(1)[0][0]
    return [at_position, list(whole)]


def _cut_off(outputs: TokenRows, codec: Codec) -> TokenRows:
    """Truncate outputs at the length at which targets are truncated."""
    if not isinstance(codec, TextCodec):
        return outputs
    most = codec.block or codec.max_completion
    return [row[:most] for row in outputs]


def _text(codec: Codec, outputs: TokenRows, examples: Examples) -> tuple[list[str], list[str]]:
    texts: Iterable[str] = map(codec.decode, examples.references)
    if isinstance(examples, TextExamples):
        texts = examples.texts
    return compare_texts(codec, outputs, texts)


def compare_texts(
    codec: Codec, outputs: TokenRows, texts: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Return outputs and references as texts to compare, so that `<unk>` never counts as a match.

    Args:
        codec: the codec of the model.
        outputs: the tokens of outputs, without eos.
        texts: the reference of each.
    """
    written = [codec.normalize(codec.decode(row)) for row in outputs]
    references = [codec.normalize(text) for text in texts]
    unknown = codec.target.unknown
    if unknown is not None:
        shown = codec.decode([unknown]).strip()
        for i, row in enumerate(outputs):
            if unknown in row and shown in references[i]:
                references[i] = references[i].replace(shown, _find_unused(written[i]) * len(shown))
    return written, references


def _find_unused(text: str) -> str:
    """Return a character of the private use area that a text does not have."""
    return next(char for char in map(chr, range(0xE000, 0xF900)) if char not in text)


def _tokens(codec: Codec, outputs: TokenRows, examples: Examples) -> tuple[TokenRows, TokenRows]:
    unknown = codec.target.unknown
    references = examples.references
    return outputs, [[-1 if t == unknown else t for t in row] for row in references]


def _tags(
    codec: Codec, outputs: TokenRows, examples: Examples
) -> tuple[list[list[str]], list[list[str]]]:
    decode, unknown = codec.target.decode, codec.target.unknown
    # An unknown tag is not a chunk in an output, and is a separate chunk in a reference.
    written = [
        ["O" if token == unknown else tag for token, tag in zip(row, decode(row), strict=True)]
        for row in outputs
    ]
    references = [decode(row) for row in examples.references]
    if isinstance(examples, TextExamples):
        # A tag that is not in training is a tag that outputs cannot have.
        actions = codec.target.actions
        references = [
            text.split(" ") if max(row, default=-1) >= actions else tags
            for row, tags, text in zip(examples.references, references, examples.texts, strict=True)
        ]
    return written, references


def _passages(
    codec: Codec, outputs: TokenRows, examples: StoredExamples
) -> tuple[list[str], list[str]]:
    def passages(rows: Iterable[Sequence[int]]) -> list[str]:
        pairs = zip(TokenSequences(examples.sources), rows, strict=True)
        return [codec.decode([*prompt, *row]) for prompt, row in pairs]

    return passages(outputs), passages(examples.references)


def _corrections(
    codec: Codec, outputs: TokenRows, examples: StoredExamples
) -> tuple[list[tuple[str, str]], list[str]]:
    written, references = _text(codec, outputs, examples)
    sources = [
        codec.normalize(codec.source_text(torch.tensor(tokens)) or "")
        for tokens in TokenSequences(examples.sources)
    ]
    return [*zip(sources, written, strict=True)], references


_FORMS: dict[Form, Callable[[Codec, TokenRows, Any], tuple[Sequence[Any], Sequence[Any]]]] = {
    "text": _text,
    "tokens": _tokens,
    "cells": _tokens,
    "tags": _tags,
    "passages": _passages,
    "corrections": _corrections,
}
