"""Measure how many errors of a model come from its own earlier ones, without training.

After every prefix p that a model wrote, the optimal next tokens O(p) are known: those after which
the smallest possible cost can still be reached. The model makes an error if its most likely token
is not among them. It also makes errors after correct prefixes. So every own prefix is compared with
the prefix of the reference that it is nearest to: the sentence and the place are the same, and only
the mistakes before it differ. The difference is the effect of the mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs.rows import length_mask
from freerun.data import Examples
from freerun.decoding import Sampler, decode_with
from freerun.evaluation.bootstrap import (
    Interval,
    check_draws,
    draw_weights,
    find_quantiles,
)
from freerun.evaluation.decoding import GREEDY, Decoding, batches_by_length, on_device
from freerun.evaluation.prefix_errors import ErrorCost, JudgedRows, PrefixErrors
from freerun.policy import Policy, evaluation_mode
from freerun.randomness import gumbel, uniform


@dataclass(frozen=True)
class ExposureBias:
    """Errors of a model after prefixes of the reference, and after its own.

    An error is a next token after which the smallest possible cost can no longer be reached; rates
    are per token, between 0 and 1. Each own prefix is paired with the prefix of the reference that
    it is nearest to.

    Attributes:
        sentences: the number of sentences.
        tokens: the number of tokens that the model wrote.
        after_reference: the error rate after prefixes of the references.
        after_own: the error rate after own prefixes.
        excess: the error rate after own prefixes, minus that after their paired prefixes.
        share: `excess` as a fraction of `after_own`: the share of errors that earlier errors
            explain, and at most what a remedy can gain. NaN if there are no errors.
        excess_per_sentence: the excess errors of a sentence.
        probability_excess: the same as `excess`, of the probability of errors under the model
            instead of its most likely token.
        amplification: how many further errors follow a wrong token that is put into a greedy
            output in place of a right one; NaN if no output has a right token.
        own_by_position: the error rate after own prefixes, for every position of an output.
        paired_by_position: the error rate after their paired prefixes: the rate at each position if
            mistakes had no consequences.
        count_by_position: the number of outputs that are long enough.
    """

    sentences: int
    tokens: int
    after_reference: Interval
    after_own: Interval
    excess: Interval
    share: Interval
    excess_per_sentence: Interval
    probability_excess: Interval
    amplification: Interval
    own_by_position: list[float]
    paired_by_position: list[float]
    count_by_position: list[int]


def measure_exposure_bias(
    policy: Policy,
    examples: Examples,
    *,
    cost: ErrorCost | None = None,
    decoding: Decoding = GREEDY,
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 2_000,
) -> ExposureBias:
    """Measure how many of a model's errors come from its earlier ones.

    Let k be the length of the longest prefix of the reference y* from which the minimum cost after
    the own prefix p can be reached (Sabour et al. 2019, arXiv 1810.01398, section 3.2), and e(p)
    whether the most likely token after p is not optimal. The excess is the mean of
    e(p) - e(y*_{1…k}) over all prefixes of all outputs.

    Args:
        policy: the model, which reads and decodes in evaluation mode.
        examples: sentences with references that the model was not trained on.
        cost: the cost that defines the optimal tokens; by default the edit distance if sequences
            end with eos, else the Hamming distance.
        decoding: how the model writes its own prefixes.
        batch_size: the number of sentences decoded together.
        seed: the seed of the places and wrong tokens of `amplification`, and of the bootstrap.
        draws: the number of draws of the bootstrap.

    Raises:
        ValueError: if there are no examples, the policy has a backspace, or the cost is unknown or
            needs eos.
    """
    cost = _check(policy, examples, cost, draws)
    parts = []
    with torch.no_grad(), evaluation_mode(policy):
        for numbers in batches_by_length(examples, batch_size):
            batch = on_device(examples.batch(numbers), policy)
            parts.append(_Errors.measure(policy, batch, cost, decoding, seed))
    sums = np.concatenate([part.sums for part in parts])
    width = max(part.own.shape[1] for part in parts)
    own, paired, count = (
        np.sum([np.pad(row, (0, width - len(row))) for row in rows], 0)
        for rows in zip(*(part.by_position for part in parts), strict=True)
    )
    shown = count > 0
    return ExposureBias(
        sentences=len(sums),
        tokens=int(sums[:, _OWN_COUNT].sum()),
        **_estimate(sums, seed, draws),
        own_by_position=(own[shown] / count[shown]).tolist(),
        paired_by_position=(paired[shown] / count[shown]).tolist(),
        count_by_position=count[shown].astype(int).tolist(),
    )


def _check(policy: Policy, examples: Examples, cost: ErrorCost | None, draws: int) -> ErrorCost:
    vocabulary = policy.vocabulary
    if cost is None:
        cost = "hamming" if vocabulary.eos is None else "edit_distance"
    if cost not in get_args(ErrorCost):
        raise ValueError(f"cost is {cost!r}; it must be one of {', '.join(get_args(ErrorCost))}")
    if cost == "edit_distance" and vocabulary.eos is None:
        raise ValueError("cost is 'edit_distance', but outputs have a fixed length; use 'hamming'")
    if vocabulary.backspace is not None:
        raise ValueError("the policy has a backspace; measure a policy that keeps what it writes")
    if not len(examples):
        raise ValueError("there are no examples")
    check_draws(draws)
    return cost


# The columns of the sums of a sentence.
_REFERENCE_ERRORS, _REFERENCE_COUNT, _OWN_ERRORS, _OWN_COUNT, _PAIRED_ERRORS = range(5)
_OWN_PROBABILITY, _PAIRED_PROBABILITY, _FURTHER, _PLANTED = range(5, 9)


@dataclass(frozen=True)
class _Errors:
    """Errors of a batch: sums of every sentence, and of every cell after own prefixes."""

    sums: Float64[np.ndarray, "b 9"]
    own: Bool[Tensor, "b u"]
    paired: Bool[Tensor, "b u"]
    mask: Bool[Tensor, "b u"]

    @property
    def by_position(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The number of errors after own and paired prefixes, and of outputs, by position."""
        sums = (each.sum(0).cpu().numpy() for each in (self.own, self.paired, self.mask))
        own, paired, count = sums
        return own, paired, count

    @classmethod
    def measure(
        cls,
        policy: Policy,
        batch: Batch,
        cost: ErrorCost,
        decoding: Decoding,
        seed: int,
    ) -> _Errors:
        errors = PrefixErrors(policy, batch, cost)
        own, reference = errors.write(decoding), errors.read(batch.target, batch.mask)
        # A truncated reference has no eos, so nothing is known after its last token.
        known = own.mask & (own.optimal.nearest < batch.lengths[:, None])
        at = own.optimal.nearest.clamp(max=batch.target.shape[1] - 1)
        paired, paired_probability = (
            each.gather(1, at).where(known, 0) for each in (reference.wrong, reference.probability)
        )
        own_wrong, own_probability = (each.where(known, 0) for each in (own.wrong, own.probability))
        # Errors after a greedy continuation are compared with those of a greedy output.
        greedy = own if decoding == GREEDY else errors.write(GREEDY)
        further, planted = _plant(errors, greedy, seed)
        columns = (
            reference.wrong.sum(1),
            batch.mask.sum(1),
            own_wrong.sum(1),
            known.sum(1),
            paired.sum(1),
            own_probability.sum(1),
            paired_probability.sum(1),
            further,
            planted,
        )
        sums = torch.stack([column.double() for column in columns], 1).cpu().numpy()
        return cls(sums, own_wrong.bool(), paired.bool(), known)


def _plant(
    errors: PrefixErrors, greedy: JudgedRows, seed: int
) -> tuple[Int[Tensor, "b"], Bool[Tensor, "b"]]:
    """Put one wrong token into every greedy output, and let the model go on greedily from there.

    The place is drawn among those where the output is right, and the token from the model's
    distribution over tokens that are neither optimal nor eos.

    Returns:
        How many more errors follow than in the output itself, and which rows have such a place.
    """
    policy, batch, tokens = errors.policy, errors.batch, greedy.tokens
    cells = torch.arange(tokens.shape[1], device=tokens.device)
    eos, actions = policy.vocabulary.eos, policy.vocabulary.actions
    right = greedy.mask & ~greedy.wrong
    if eos is not None:
        right &= tokens != eos
    draws = uniform("place", seed, batch.ids[:, None], cells)
    place = draws.masked_fill(~right, -1).argmax(1)
    found = right.any(1)
    rows = found.nonzero()[:, 0]
    excluded = greedy.optimal.mark(rows * tokens.shape[1] + place[rows], actions)
    if eos is not None:
        excluded[:, eos] = True
    possible = ~excluded.all(1)
    found[rows] = possible
    further = torch.zeros_like(place)
    rows, excluded = rows[possible], excluded[possible]
    if not len(rows):
        return further, found
    some = batch.select(rows)
    choose = _make_planter(tokens[rows], place[rows], excluded, some.ids, seed)
    again = decode_with(policy, some.source, choose)
    mask = length_mask(again.tokens.shape[1], again.lengths)
    # Greedy outputs consist of the most likely tokens, so the rows need not be read again.
    optimal = PrefixErrors(policy, some, errors.cost).find_optimal(again.tokens, mask)
    errs = mask & ~optimal.contain(again.tokens)
    after = torch.arange(again.tokens.shape[1], device=tokens.device) > place[rows, None]
    before = (greedy.wrong & (cells > place[:, None])).sum(1)
    further[rows] = (errs & after).sum(1) - before[rows]
    return further, found


def _make_planter(
    tokens: Int[Tensor, "n u"],
    place: Int[Tensor, "n"],
    excluded: Bool[Tensor, "n a"],
    ids: Int[Tensor, "n"],
    seed: int,
) -> Sampler:
    """Return a sampler that writes rows up to a place, draws a token there, and goes on greedily.

    Args:
        tokens: the rows.
        place: the place in each.
        excluded: the tokens that are not drawn there.
        ids: the number of each row in the data set.
        seed: the seed of the draws.
    """
    numbers = torch.arange(excluded.shape[1], device=excluded.device)

    def choose(
        scores: Float[Tensor, "k a"], rows: Int[Tensor, "k"], cell: int
    ) -> tuple[Int[Tensor, "k"], Float[Tensor, "k"]]:
        written = tokens[rows, min(cell, tokens.shape[1] - 1)]
        chosen = scores.argmax(1).where(place[rows] < cell, written)
        at = (place[rows] == cell).nonzero()[:, 0]
        noise = gumbel("token", seed, ids[rows[at]][:, None], numbers)
        drawn = (scores[at].float() + noise).masked_fill(excluded[rows[at]], -torch.inf)
        chosen[at] = drawn.argmax(1)
        return chosen, torch.zeros_like(scores[:, 0])  # probabilities are not needed

    return choose


def _estimate(sums: Float64[np.ndarray, "n 9"], seed: int, draws: int) -> dict[str, Interval]:
    """Estimate the rates from the sums of every sentence, with a bootstrap over sentences."""
    count = len(sums)
    totals = np.stack([weights @ sums for weights in draw_weights(count, seed, draws)])
    point, spread = _find_rates(sums.sum(0)[None], count), _find_rates(totals, count)
    return {
        name: Interval(float(point[name][0]), *map(float, find_quantiles(spread[name])))
        for name in point
    }


def _find_rates(
    totals: Float64[np.ndarray, "d 9"], sentences: int
) -> dict[str, Float64[np.ndarray, "d"]]:
    columns = totals.T
    excess = columns[_OWN_ERRORS] - columns[_PAIRED_ERRORS]
    probable = columns[_OWN_PROBABILITY] - columns[_PAIRED_PROBABILITY]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "after_reference": columns[_REFERENCE_ERRORS] / columns[_REFERENCE_COUNT],
            "after_own": columns[_OWN_ERRORS] / columns[_OWN_COUNT],
            "excess": excess / columns[_OWN_COUNT],
            # Without own errors it is not a number, even if there are paired ones.
            "share": np.where(columns[_OWN_ERRORS] > 0, excess / columns[_OWN_ERRORS], np.nan),
            "excess_per_sentence": excess / sentences,
            "probability_excess": probable / columns[_OWN_COUNT],
            "amplification": columns[_FURTHER] / columns[_PLANTED],
        }
