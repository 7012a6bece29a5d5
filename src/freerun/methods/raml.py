"""Reward-augmented maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, join_rows
from freerun.costs import Cost
from freerun.costs.rows import length_mask
from freerun.data import Codec
from freerun.decoding import sample_tokens
from freerun.losses import log_loss
from freerun.methods.base import NO_MODULES, Clock, Method, Modules, Outcome, check_range
from freerun.methods.metric_costs import bind_cost
from freerun.methods.samples import (
    Samples,
    check_cost,
    check_positive,
    name_samples,
    resolve_cost,
    weigh_by_length,
)
from freerun.methods.tuning import Range, Space
from freerun.policy import Policy
from freerun.randomness import Coordinate, below, uniform
from freerun.vocabulary import Vocabulary

DEFAULT_EDITS = 0.1
DEFAULT_CANDIDATES = 10
LEAST_TEMPERATURE = 0.00135
"""Below, exp(-1/τ) is 0 in double precision."""
_NEVER = -1e4
"""The logarithm of a probability that is next to 0, and can be subtracted without a NaN."""


@dataclass(frozen=True)
class EditModel:
    """Random edits of sequences, each of the weight λ.

    Before every token, any number of tokens is inserted; then the token is kept, replaced or
    deleted. The probability of a list of e edits is proportional to λ^e, and that of an output is
    the sum over all lists of edits that lead to it. Only text tokens are inserted, replaced and
    deleted: eos and other special tokens are kept.

    Args:
        text: the text tokens, V of them.
        size: the number of tokens, with special ones.
        weight: λ, below 1/V if there are insertions.
        lengths: whether lengths may change; if not, tokens are only replaced.
    """

    text: Int[Tensor, "v"]
    size: int
    weight: float
    lengths: bool

    @property
    def numbers(self) -> Int[Tensor, "{self.size}"]:
        """The place of each token in `text`; -1 for special tokens."""
        numbers = torch.full((self.size,), -1, device=self.text.device)
        numbers[self.text] = torch.arange(len(self.text), device=self.text.device)
        return numbers

    def draw(
        self, target: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"], names: tuple[Coordinate, ...]
    ) -> tuple[Int[Tensor, "n u"], Bool[Tensor, "n u"]]:
        """Draw edited targets.

        Args:
            target: the targets.
            mask: true on their tokens, false on the padding that follows.
            names: the coordinates of the random numbers; tensors have a value per row.

        Returns:
            The edited targets, and their mask.
        """
        number, others = self.numbers[target.where(mask, 0)], len(self.text) - 1
        editable = mask & (number >= 0)
        cells = torch.arange(mask.shape[1], device=mask.device)
        names = tuple(n[:, None] if isinstance(n, Tensor) else n for n in names)
        # The weights are 1 for keeping, λ for each other token, and λ for deleting.
        deleting = self.weight if self.lengths else 0.0
        whole = 1 + others * self.weight + deleting
        drawn = uniform(*names, cells, dtype=torch.float64) * whole
        deleted = editable & (drawn < deleting)
        replaced = editable & ~deleted & (drawn < deleting + others * self.weight)
        # Steps of 1 to V-1 from the right token lead to each of the others.
        steps = 1 + below(others, *names, cells, "token")
        wrong = self.text[(number + steps) % len(self.text)]
        tokens = torch.where(replaced, wrong, target)
        if not self.lengths:
            return tokens, mask
        more = self.weight * len(self.text)
        # The number of insertions is geometric: at least k with probability more^k.
        waits = uniform(*names, cells, "insertions", dtype=torch.float64).log() / math.log(more)
        inserted = waits.long().masked_fill(~mask, 0)
        counts = inserted + (mask & ~deleted).long()
        starts = counts.cumsum(1) - counts
        lengths = counts.sum(1)
        found = target.new_zeros(len(target), max(1, int(lengths.max())))
        rows = torch.arange(len(target), device=mask.device)[:, None].expand_as(mask)
        kept = mask & ~deleted
        found[rows[kept], (starts + inserted)[kept]] = tokens[kept]
        for number_here in range(int(inserted.max())):
            here = inserted > number_here
            new = self.text[below(len(self.text), *names, cells, "inserted", number_here)]
            found[rows[here], (starts + number_here)[here]] = new.expand_as(mask)[here]
        return found, length_mask(found.shape[1], lengths)

    def log_prob(
        self,
        outputs: Int[Tensor, "n u"],
        output_mask: Bool[Tensor, "n u"],
        target: Int[Tensor, "n t"],
        mask: Bool[Tensor, "n t"],
    ) -> Float[Tensor, "n"]:
        """Compute the log-probability that `draw` returns these outputs.

        A forward algorithm: after each token of the target, the probability of every prefix of the
        output, summed over all lists of edits.
        """
        count, width = outputs.shape
        number = self.numbers[target.where(mask, 0)]
        written = self.numbers[outputs.where(output_mask, 0)]
        is_text = output_mask & (written >= 0)
        weight = math.log(self.weight)
        more = len(self.text) * self.weight if self.lengths else 0.0
        deleting = self.weight if self.lengths else 0.0
        kept = -math.log1p((len(self.text) - 1) * self.weight + deleting)
        start = outputs.new_zeros(count, 1, dtype=torch.float64)
        # Column j is about the first j tokens of the output.
        insertions = start.new_full((count, width), _NEVER).masked_fill(is_text, weight)
        inserted = torch.cat([start, insertions.cumsum(1)], 1)
        found = torch.cat([start, start.new_full((count, width), -math.inf)], 1)
        for cell in range(target.shape[1]):
            here = found
            if self.lengths:
                here = inserted + (here - inserted).logcumsumexp(1) + math.log1p(-more)
            same = output_mask & (outputs == target[:, cell, None])
            editable = number[:, cell, None] >= 0
            other = is_text & editable & ~same
            cost = start.new_full((count, width), -math.inf)
            cost = cost.masked_fill(same, 0.0).masked_fill(other, weight)
            cost = cost + torch.where(editable, kept, 0.0)
            after = torch.cat([start - math.inf, here[:, :-1] + cost], 1)
            if self.lengths:
                deleted = torch.where(editable, here + weight + kept, -math.inf)
                after = torch.logaddexp(after, deleted)
            found = torch.where(mask[:, cell, None], after, found)
        return found.gather(1, output_mask.sum(1, keepdim=True))[:, 0]


@dataclass(frozen=True, kw_only=True)
class RAML(Method):
    """Log loss of edited targets y, drawn by q(y) ∝ exp(-Δ(y, y*)/τ).

    Norouzi, Bengio, Chen, Jaitly, Schuster, Wu, Schuurmans 2016, *Reward Augmented Maximum
    Likelihood for Neural Structured Prediction*, arXiv 1609.00150, equation 5. If lengths are
    fixed, Δ is by default the number of replaced tokens, and q is exact. Otherwise it is the number
    of inserted, deleted and replaced tokens; an output that several lists of edits lead to has the
    sum of their weights.

    Args:
        edits: the weight of replacing a token by any of V, relative to keeping it, V·exp(-1/τ);
            above 0, and below 1 if lengths are free (default 0.1, which is much where outputs are
            aligned with their sources: try 0.01). With a cost, that of the candidates.
        temperature: τ, in units of Δ; above 0. It takes the place of `edits` for numbers of edits,
            where it is at least 0.00135, and is required for a cost.
        cost: another Δ: one of `freerun.costs`, or the address of a function,
            `package.module:function`. One of several candidates with random edits is drawn, by
            importance weights.
        candidates: for a cost only, the number of candidates; at least 1 (default 10). With more,
            the distribution is closer to q.

    Raises:
        ValueError: if a setting is out of range, missing, or has no effect.
    """

    name: ClassVar[str] = "raml"
    paper: ClassVar[str] = "Norouzi et al. 2016, arXiv 1609.00150"
    summary: ClassVar[str] = "learns randomly edited targets; as cheap as maximum likelihood"

    edits: float | None = None
    temperature: float | None = None
    cost: str | Cost | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges, and that every setting has an effect."""
        check_cost(self.cost)
        for name in ("edits", "temperature"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.cost is None:
            check_range("temperature", self.temperature, LEAST_TEMPERATURE)
        check_range("candidates", self.candidates, 1)
        if self.cost is not None and self.temperature is None:
            raise ValueError("temperature is required with a cost; it is in units of the cost")
        if self.cost is None and self.candidates is not None:
            raise ValueError("candidates has no effect without a cost; leave it out")
        if self.cost is None and self.edits is not None and self.temperature is not None:
            raise ValueError("edits has no effect where temperature is given; leave one out")

    @property
    def tuning(self) -> Mapping[str, Space]:
        """The weight of edits."""
        if self.cost is None and self.temperature is not None:
            return {}
        return {"edits": Range(0.01, 0.5, log=True)}

    def for_codec(self, codec: Codec) -> RAML:
        """Return this method with a metric of texts as its cost, if it was given one."""
        return replace(self, cost=bind_cost(self.cost, codec))

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that edits are rare enough, and that the cost matches the vocabulary.

        Raises:
            ValueError: if they are not, or it does not.
        """
        self.build_edits(vocabulary, torch.device("cpu"))
        if self.cost is not None:
            resolve_cost(self.cost, vocabulary, "RAML")

    def build_edits(self, vocabulary: Vocabulary, device: torch.device) -> EditModel:
        """Return the distribution of edited targets, or of candidates.

        Raises:
            ValueError: if there are fewer than two text tokens, or edits are so likely that there
                would be no end of insertions.
        """
        special = set(vocabulary.special)
        text = [a for a in range(vocabulary.actions) if a not in special]
        if len(text) < 2:
            raise ValueError("RAML needs at least two tokens of text, to replace one by another")
        free = vocabulary.eos is not None
        if self.cost is None and self.temperature is not None:
            weight, name = math.exp(-1 / self.temperature), "temperature"
            most = f"below 1/log({len(text)}) = {1 / math.log(len(text)):.3g}"
        else:
            weight = (DEFAULT_EDITS if self.edits is None else self.edits) / len(text)
            name, most = "edits", "below 1"
        if free and weight * len(text) >= 1:
            raise ValueError(
                f"{name} is {getattr(self, name)}; it must be {most}, as otherwise longer outputs "
                "are the more likely ones"
            )
        return EditModel(torch.tensor(text, device=device), vocabulary.size, weight, free)

    def edit(
        self, batch: Batch, vocabulary: Vocabulary, limit: Int[Tensor, "b"], clock: Clock
    ) -> Batch:
        """Draw an edited target for every example.

        Args:
            batch: the examples.
            vocabulary: the vocabulary of outputs.
            limit: the maximum length of each; longer ones are replaced by the target.
            clock: the progress of training.
        """
        edits = self.build_edits(vocabulary, batch.target.device)
        count = 1 if self.cost is None else self.candidates or DEFAULT_CANDIDATES
        rows, names = name_samples(batch, count, clock, "raml")
        target, due = batch.target[rows], batch.mask[rows]
        tokens, mask = edits.draw(target, due, (names,))
        if self.cost is not None:
            drawn = Samples(rows, tokens, mask)
            cost = resolve_cost(self.cost, vocabulary, "RAML")
            costs = drawn.compute_costs(batch, vocabulary, cost)
            assert self.temperature is not None  # noqa: S101  # required with a cost
            weights = -costs / self.temperature - edits.log_prob(tokens, mask, target, due)
            shares = weights.view(-1, count).log_softmax(1)
            places = sample_tokens(shares, clock.seed, "candidate", clock.step, batch.ids)
            places = places + count * torch.arange(len(places), device=rows.device)
            tokens, mask = tokens[places], mask[places]
        return _replace_targets(batch, tokens, mask, limit, vocabulary.pad)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the edited targets, divided by the number of their tokens.

        Raises:
            ValueError: if an example has no target, or edits are too likely.
        """
        batch.target_tokens()
        limit = torch.maximum(policy.limit(batch.source), batch.lengths)
        edited = self.edit(batch, policy.vocabulary, limit, clock)
        trace = policy.force(edited.source, edited.inputs(policy.vocabulary.bos))
        total = trace.sum_loss(edited.mask, log_loss, edited.target[edited.mask])
        width = min(batch.mask.shape[1], edited.mask.shape[1])
        mask = batch.mask[:, :width]
        same = (edited.target[:, :width] == batch.target[:, :width]) | ~mask
        changed = ~same.all(1) | (edited.lengths != batch.lengths)
        metrics = {"edited": weigh_by_length(changed.to(total.dtype), edited)}
        return Outcome(total, edited.mask.sum(), metrics)


def _replace_targets(
    batch: Batch,
    tokens: Int[Tensor, "b u"],
    mask: Bool[Tensor, "b u"],
    limit: Int[Tensor, "b"],
    pad: int,
) -> Batch:
    """Return the batch with other targets, except where these are longer than a limit, or empty."""
    lengths = mask.sum(1)
    fits = (lengths <= limit) & (lengths > 0)
    rows = torch.arange(len(fits), device=fits.device)
    places = torch.where(fits, rows, rows + len(rows))
    target = join_rows(tokens, batch.target, fill=pad)[places]
    chosen = join_rows(mask, batch.mask)[places]
    longest = int(chosen.sum(1).max())
    return Batch(batch.ids, batch.source, target[:, :longest], chosen[:, :longest])
