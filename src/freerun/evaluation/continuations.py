"""Compare the continuations that a model writes with real ones, by their length.

Open-ended text has no right continuation, and without an oracle no measure of errors. What is known
of models that suffer from their own errors is that their text repeats itself, and becomes less
varied than real text the longer it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64, Int64

from freerun.data import Examples
from freerun.evaluation.bootstrap import (
    Interval,
    check_draws,
    draw_weights,
    find_quantiles,
)
from freerun.evaluation.decoding import GREEDY, Decoding
from freerun.evaluation.evaluation import decode_hypotheses
from freerun.metrics.corpora import ORDER, ngrams, repetition
from freerun.policy import Policy

SHORTEST = 8
"""The least length that is measured; the others are twice, four times … as long."""

Rows = Sequence[Sequence[int]]
MauveFunction = Callable[[Sequence[int], Rows, Rows], float]
"""A function of the numbers of examples, and of own and real continuations of each."""


@dataclass(frozen=True)
class ContinuationComparison:
    """Own and real continuations of the same prompts, cut to the same lengths.

    At each length, only prompts count of which both continuations are long enough; these are at
    least half. There is one value per length.

    Attributes:
        sentences: the number of prompts.
        lengths: the lengths in tokens: 8, 16, 32, …
        counts: the number of prompts that count.
        own_repetition: the mean fraction of repeated 4-grams in own text (see
            `freerun.metrics.repetition`).
        real_repetition: that in real text.
        repetition_excess: the difference of the two.
        own_entropy: the entropy of all 4-grams of own text, in nats (see
            `freerun.metrics.entropy`).
        real_entropy: that of real text.
        entropy_excess: the difference of the two.
        mauve: MAUVE of own and real text, with their prompts (see `freerun.metrics.mauve`), which
            is unreliable for few texts; empty if it was not computed.
    """

    sentences: int
    lengths: list[int]
    counts: list[int]
    own_repetition: list[float]
    real_repetition: list[float]
    repetition_excess: list[Interval]
    own_entropy: list[float]
    real_entropy: list[float]
    entropy_excess: list[Interval]
    mauve: list[float] = field(default_factory=list)


def compare_continuations(
    policy: Policy,
    examples: Examples,
    *,
    decoding: Decoding = GREEDY,
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 2_000,
    mauve: MauveFunction | None = None,
) -> ContinuationComparison:
    """Compare the repetition and the entropy of own continuations with those of real ones.

    Intervals are from a bootstrap over prompts, centered on the estimate, as a resampled text has
    less entropy.

    Args:
        policy: the model.
        examples: prompts with real continuations that the model was not trained on.
        decoding: how the model writes.
        batch_size: the number of continuations that are written together.
        seed: the seed of the bootstrap.
        draws: the number of draws of the bootstrap.
        mauve: computes MAUVE at every length, without interval; by default it is not computed.

    Raises:
        ValueError: if fewer than half of the prompts have two continuations of at least 8 tokens.
    """
    check_draws(draws)
    outputs = decode_hypotheses(policy, examples, decoding=decoding, batch_size=batch_size)
    pairs = list(enumerate(zip(outputs, examples.references, strict=True)))
    found, distances = [], []
    length = SHORTEST
    while True:
        kept = [(i, pair) for i, pair in pairs if min(map(len, pair)) >= length]
        if not kept or 2 * len(kept) < len(pairs):
            break
        own, real = ([pair[side][:length] for _, pair in kept] for side in (0, 1))
        found.append((length, len(kept), *_compare(own, real, seed, draws)))
        if mauve is not None:
            distances.append(mauve([i for i, _ in kept], own, real))
        length *= 2
    if not found:
        raise ValueError(
            f"fewer than half of the prompts have an output and a reference of {SHORTEST} tokens, "
            "which is too short to compare them as text; give a cost or an oracle"
        )
    columns = map(list, zip(*found, strict=True))
    return replace(ContinuationComparison(len(pairs), *columns), mauve=distances)


def _compare(
    own: Rows, real: Rows, seed: int, draws: int
) -> tuple[float, float, Interval, float, float, Interval]:
    """Return the figures of texts of the same length."""
    count = len(own)
    repeats = np.array([[repetition([row]) for row in rows] for rows in (own, real)])
    grams = [_Grams.count(rows) for rows in (own, real)]
    repeated, entropies = np.empty(draws), np.empty(draws)
    for i, weights in enumerate(draw_weights(count, seed, draws)):
        repeated[i] = (repeats[0] - repeats[1]) @ weights / count
        entropies[i] = grams[0].entropy(weights) - grams[1].entropy(weights)
    once = np.ones(count)
    mine, theirs = map(float, repeats.mean(1))
    own_entropy, real_entropy = (each.entropy(once) for each in grams)
    return (
        mine,
        theirs,
        _center(mine - theirs, repeated),
        own_entropy,
        real_entropy,
        _center(own_entropy - real_entropy, entropies),
    )


def _center(value: float, drawn: Float64[np.ndarray, "d"]) -> Interval:
    low, high = find_quantiles(drawn - drawn.mean())
    return Interval(value, value + float(low), value + float(high))


@dataclass(frozen=True)
class _Grams:
    """All 4-grams of some texts: which text each is in, and which gram it is."""

    text: Int64[np.ndarray, "m"]
    gram: Int64[np.ndarray, "m"]

    @classmethod
    def count(cls, rows: Rows) -> _Grams:
        numbers: dict[tuple[int, ...], int] = {}
        pairs = [
            (i, numbers.setdefault(gram, len(numbers)))
            for i, row in enumerate(rows)
            for gram in ngrams(row, ORDER)
        ]
        text, gram = np.array(pairs, dtype=np.int64).T
        return cls(text, gram)

    def entropy(self, weights: Float64[np.ndarray, "n"]) -> float:
        """Return the entropy of the grams in nats, each text having a weight."""
        counts = np.bincount(self.gram, weights[self.text])
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum()) + 0.0
