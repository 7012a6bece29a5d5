"""How much a model suffers from its own mistakes, measured without training anything.

After every prefix p that a model wrote, the optimal next tokens O(p) are known: those after which
the smallest possible cost can still be reached. The model errs there if its most likely token is
not among them. It would also err sometimes after a correct prefix. So every own prefix is compared
with the prefix of the reference that it is nearest to: the sentence and the place are the same, and
only the mistakes before it differ. The difference is what the mistakes brought about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs.rows import length_mask
from freerun.data import Examples
from freerun.decoding import Decoded, choose_greedily, decode_with
from freerun.evaluation.decoding import GREEDY, Decoding, batches_by_length, decode, on_device
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.randomness import gumbel, uniform
from freerun.references import nearest_prefixes, optimal_tokens

ErrorCost = Literal["edit_distance", "hamming"]
"""The costs under which optimal next tokens are known."""

_MOST_SCORES = 2**24
"""The maximum number of scores that are computed at a time."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval, from a bootstrap over sentences."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


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
        paired_by_position: the error rate after their paired prefixes: what the positions would
            show if mistakes had no consequences.
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
    if draws < 1:
        raise ValueError(f"draws is {draws}; it must be at least 1")
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
        cls, policy: Policy, batch: Batch, cost: ErrorCost, decoding: Decoding, seed: int
    ) -> _Errors:
        judge = _Judge(policy, batch, cost)
        reference = judge.judge(batch.target, batch.mask)
        decoded, own = judge.judge_output(decoding)
        # A reference that was cut has no eos, so nothing is known after all of its tokens.
        known = own.mask & (own.nearest < batch.lengths[:, None])
        at = own.nearest.clamp(max=batch.target.shape[1] - 1)
        paired, paired_probability = (
            each.gather(1, at).where(known, 0) for each in (reference.wrong, reference.probability)
        )
        own_wrong, own_probability = (each.where(known, 0) for each in (own.wrong, own.probability))
        further, planted = _plant(policy, batch, judge, decoding, (decoded, own), seed)
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


@dataclass(frozen=True)
class _Judged:
    """Rows of tokens, and how right the model is after each of their prefixes.

    Attributes:
        mask: true on the tokens that were judged.
        wrong: whether the most likely token after the prefix is not optimal.
        probability: the probability of the tokens that are not optimal.
        nearest: the length of the prefix of the reference that is nearest.
    """

    mask: Bool[Tensor, "b u"]
    wrong: Bool[Tensor, "b u"]
    probability: Float[Tensor, "b u"]
    nearest: Int[Tensor, "b u"]


class _Judge:
    """Finds errors after the prefixes of any rows of tokens for a batch of sentences."""

    def __init__(self, policy: Policy, batch: Batch, cost: ErrorCost) -> None:
        self.policy, self.batch, self.cost = policy, batch, cost
        eos = policy.vocabulary.eos
        ended = batch.target == eos if eos is not None else torch.zeros_like(batch.mask)
        self.lengths = (batch.mask & ~ended).sum(1)

    def judge(self, tokens: Int[Tensor, "b u"], mask: Bool[Tensor, "b u"]) -> _Judged:
        """Judge the most likely token after every prefix of rows, before each true cell."""
        trace = self.read(tokens)
        wrong, nearest = torch.zeros_like(mask), torch.zeros_like(tokens)
        probability = torch.zeros(tokens.shape, device=tokens.device)
        for cells, scores in self._blocks(trace, mask):
            optimal, near = self.find_optimal(tokens, cells)
            wrong[cells] = ~optimal.gather(1, scores.argmax(1, keepdim=True))[:, 0]
            probability[cells] = scores.float().softmax(1).masked_fill(optimal, 0).sum(1)
            nearest[cells] = near
        return _Judged(mask, wrong, probability, nearest)

    def judge_output(self, decoding: Decoding) -> tuple[Decoded, _Judged]:
        """Decode, and judge the output."""
        decoded = decode(self.policy, self.batch.source, decoding, ids=self.batch.ids)
        mask = length_mask(decoded.tokens.shape[1], decoded.lengths)
        return decoded, self.judge(decoded.tokens, mask)

    def read(self, tokens: Int[Tensor, "b u"]) -> Trace:
        """Read rows as the model's own previous tokens."""
        inputs = shift_right(tokens, self.policy.vocabulary.bos)
        return self.policy.force(self.batch.source, inputs)

    def _blocks(
        self, trace: Trace, mask: Bool[Tensor, "b u"]
    ) -> Iterator[tuple[Bool[Tensor, "b u"], Float[Tensor, "n a"]]]:
        size = max(1, _MOST_SCORES // self.policy.vocabulary.actions)
        order = mask.flatten().cumsum(0).view(mask.shape)
        for start in range(0, int(mask.sum()), size):
            cells = mask & (order > start) & (order <= start + size)
            yield cells, trace.logits(cells)

    def find_optimal(
        self, tokens: Int[Tensor, "b u"], cells: Bool[Tensor, "b u"]
    ) -> tuple[Bool[Tensor, "n a"], Int[Tensor, "n"]]:
        """Return the optimal tokens before each cell, and the length of the nearest prefix."""
        rows, places = cells.nonzero(as_tuple=True)
        vocabulary = self.policy.vocabulary
        targets, lengths = self.batch.target[rows], self.lengths[rows]
        if self.cost == "edit_distance":
            assert vocabulary.eos is not None  # noqa: S101 - see `_check`
            pairs = (tokens[rows], places, targets, lengths)
            unknown = vocabulary.unknown
            optimal = optimal_tokens(*pairs, vocabulary.actions, vocabulary.eos, unknown=unknown)
            return optimal, nearest_prefixes(*pairs, unknown=unknown)
        at = torch.minimum(places, lengths)
        right = targets.gather(1, at.clamp(max=targets.shape[1] - 1)[:, None])[:, 0]
        if vocabulary.eos is not None:
            right = right.where(places < lengths, vocabulary.eos)
        actions = torch.arange(vocabulary.actions, device=tokens.device)
        matches = (
            right if vocabulary.unknown is None else right.where(right != vocabulary.unknown, -1)
        )
        return actions == matches[:, None], at


def _plant(
    policy: Policy,
    batch: Batch,
    judge: _Judge,
    decoding: Decoding,
    output: tuple[Decoded, _Judged],
    seed: int,
) -> tuple[Float[Tensor, "b"], Bool[Tensor, "b"]]:
    """Put one wrong token into every greedy output, and decode greedily from there.

    The place is drawn among those where the output is right, and the token from the model's
    distribution over tokens that are neither optimal nor eos.

    Returns:
        How many more errors follow than in the output itself, and which rows have such a place.
    """
    # Errors after a greedy continuation are compared with those of a greedy output.
    decoded, own = output if decoding == GREEDY else judge.judge_output(GREEDY)
    eos, tokens = policy.vocabulary.eos, decoded.tokens
    cells = torch.arange(tokens.shape[1], device=tokens.device)
    right = own.mask & ~own.wrong
    if eos is not None:
        right &= tokens != eos
    draws = uniform("place", seed, batch.ids[:, None], cells).to(tokens.device)
    place = draws.masked_fill(~right, -1).argmax(1)
    found = right.any(1)
    here = (cells == place[:, None]) & found[:, None]
    if not found.any():
        return torch.zeros(len(tokens), device=tokens.device), found
    scores = judge.read(tokens).logits(here).float()
    optimal, _ = judge.find_optimal(tokens, here)
    if eos is not None:
        optimal[:, eos] = True
    actions = torch.arange(scores.shape[1], device=scores.device)
    noise = gumbel("token", seed, batch.ids[found][:, None], actions)
    wrong = (scores + noise).masked_fill(optimal, -torch.inf).argmax(1)
    found[found.clone()] &= ~optimal.all(1)
    planted = tokens.masked_scatter(here, wrong)

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen, log_probs = choose_greedily(scores, rows, cell)
        if cell >= planted.shape[1]:
            return chosen, log_probs
        return chosen.where(cell > place[rows], planted[rows, cell]), log_probs

    again = decode_with(policy, batch.source, choose)
    after = torch.arange(again.tokens.shape[1], device=tokens.device) > place[:, None]
    mask = length_mask(again.tokens.shape[1], again.lengths) & after
    errors = judge.judge(again.tokens, mask).wrong.sum(1)
    before = (own.wrong & (cells > place[:, None])).sum(1)
    return (errors - before).double().where(found, 0), found


def _estimate(sums: Float64[np.ndarray, "n 9"], seed: int, draws: int) -> dict[str, Interval]:
    """Estimate the rates from the sums of every sentence, with a bootstrap over sentences."""
    generator = np.random.default_rng(seed)
    count = len(sums)
    totals = np.stack(
        [
            np.bincount(generator.integers(count, size=count), minlength=count) @ sums
            for _ in range(draws)
        ]
    )
    point, spread = _find_rates(sums.sum(0)[None], count), _find_rates(totals, count)
    return {
        name: Interval(float(point[name][0]), *map(float, _find_quantiles(spread[name])))
        for name in point
    }


def _find_quantiles(values: Float64[np.ndarray, "d"]) -> Float64[np.ndarray, "2"]:
    known = values[~np.isnan(values)]
    return np.quantile(known, [0.025, 0.975]) if len(known) else np.full(2, np.nan)


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
