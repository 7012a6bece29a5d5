"""Measure how many errors of a model come from its own earlier ones, without training.

After every prefix p that a model wrote, the optimal next tokens O(p) are known: those after which
the smallest possible cost can still be reached. The model makes an error if its most likely token
is not among them. It also makes errors after correct prefixes. So every own prefix is compared with
the prefix of the reference that it is nearest to: the sentence and the place are the same, and only
the mistakes before it differ. The difference is the effect of the mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs.rows import length_mask
from freerun.data import Examples
from freerun.evaluation.bootstrap import (
    Interval,
    check_draws,
    draw_weights,
    find_quantiles,
)
from freerun.evaluation.decoding import GREEDY, Decoding, batches_by_length, decode, on_device
from freerun.evaluation.prefix_errors import ErrorCost, JudgedRows, PrefixErrors
from freerun.policy import Policy, evaluation_mode
from freerun.randomness import gumbel, uniform
from freerun.roll_in import Trajectories
from freerun.roll_out import Trials, roll_out


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
            outputs = [decode(policy, batch.source, decoding, ids=batch.ids)]
            # Errors after a greedy continuation are compared with those of a greedy output.
            if decoding != GREEDY:
                outputs.append(decode(policy, batch.source))
            for rows in _split_rows(batch):
                written = [(each.tokens[rows], each.lengths[rows]) for each in outputs]
                parts.append(_Errors.measure(policy, batch.select(rows), cost, written, seed))
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


_Written = tuple[Tensor, Tensor]
"""The tokens of outputs, and their lengths."""

_MOST_POSITIONS = 5_000
"""The maximum number of positions, of sources and targets, that are read at a time."""

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
        written: Sequence[_Written],
        seed: int,
    ) -> _Errors:
        errors = PrefixErrors(policy, batch, cost)
        reference = errors.find(batch.target, batch.mask)
        own = _find_own(errors, written[0])
        # A truncated reference has no eos, so nothing is known after its last token.
        known = own.mask & (own.optimal.nearest < batch.lengths[:, None])
        at = own.optimal.nearest.clamp(max=batch.target.shape[1] - 1)
        paired, paired_probability = (
            each.gather(1, at).where(known, 0) for each in (reference.wrong, reference.probability)
        )
        own_wrong, own_probability = (each.where(known, 0) for each in (own.wrong, own.probability))
        greedy = own if len(written) == 1 else _find_own(errors, written[1])
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


def _split_rows(batch: Batch) -> Iterator[Int[Tensor, "n"]]:
    """Yield the rows of a batch in parts whose hidden states stay in the cache when they are read.

    Decoding gains from many rows, as it reads one position of each at a time; reading does not.
    """
    positions = batch.source.mask.shape[1] + batch.target.shape[1]
    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    yield from rows.split(max(1, _MOST_POSITIONS // positions))


def _find_own(errors: PrefixErrors, written: _Written) -> JudgedRows:
    """Find the errors after the prefixes of outputs."""
    tokens, lengths = written
    return errors.find(tokens, length_mask(tokens.shape[1], lengths))


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
    here = (cells == place[:, None]) & found[:, None]
    excluded = greedy.optimal.mark(here.flatten().nonzero()[:, 0], actions)
    if eos is not None:
        excluded[:, eos] = True
    found = found.masked_scatter(found, ~excluded.all(1))
    rows = found.nonzero()[:, 0]
    if not len(rows):
        return torch.zeros_like(place), found
    excluded, here = excluded[~excluded.all(1)], here & found[:, None]
    scores = greedy.trace.logits(here).float()
    numbers = torch.arange(actions, device=scores.device)
    noise = gumbel("token", seed, batch.ids[rows][:, None], numbers)
    wrong = (scores + noise).masked_fill(excluded, -torch.inf).argmax(1)
    limit = policy.limit(batch.source)
    again = roll_out(
        policy,
        greedy.trace,
        Trajectories(tokens, greedy.mask, greedy.mask),
        Trials(rows, place[rows], torch.arange(len(rows), device=rows.device), wrong),
        limit=limit,
        max_new_tokens=limit,
        chunk_size=len(rows),
    )
    ended = again.lengths < limit[rows]  # with eos, which is judged, too
    written = again.tokens.new_zeros(len(tokens), again.tokens.shape[1])
    mask = torch.zeros_like(written, dtype=torch.bool)
    written[rows], mask[rows] = (
        again.tokens,
        length_mask(again.tokens.shape[1], again.lengths + ended.long()),
    )
    # Greedy outputs consist of the most likely tokens, so the rows need not be read again.
    errs = mask & ~errors.find_optimal(written, mask).contain(written)
    after = torch.arange(written.shape[1], device=tokens.device) > place[:, None]
    before = (greedy.wrong & (cells > place[:, None])).sum(1)
    return ((errs & after).sum(1) - before).where(found, 0), found


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
            "share": excess / columns[_OWN_ERRORS],
            "excess_per_sentence": excess / sentences,
            "probability_excess": probable / columns[_OWN_COUNT],
            "amplification": columns[_FURTHER] / columns[_PLANTED],
        }
