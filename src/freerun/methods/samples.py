"""Outputs that the policy samples in training: their log-probabilities and costs."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, shift_right
from freerun.costs import Cost, CostName, check_costs, make_cost
from freerun.costs.rows import length_mask
from freerun.data import Codec
from freerun.decoding import CellChooser, promote_scores, sample_tokens
from freerun.imports import import_object, is_address
from freerun.methods.base import (
    NO_MODULES,
    Clock,
    Method,
    Modules,
    Outcome,
    check_range,
    check_warm_up,
    refuse_backspace,
)
from freerun.methods.metric_costs import bind_cost, is_metric, is_metric_name, takes
from freerun.methods.mle import MLE
from freerun.metrics import Metric
from freerun.policy import Policy, Trace
from freerun.randomness import random_bits
from freerun.tasks.base import Task
from freerun.trajectories import write_outputs
from freerun.vocabulary import Vocabulary

EQUAL_LENGTH_COSTS = ("hamming", "hamming_total")
UNLIMITED = 1 << 30
"""A number of tokens that no sequence has."""


def check_cost(cost: object) -> None:
    """Check that a cost is a function, or names one.

    Raises:
        ValueError: if a text is neither the name of a cost or metric nor the address of a function,
            or a function does not take the arguments of a cost.
    """
    if cost is not None and not isinstance(cost, (str, Metric)):
        check_function(cost, "cost")
    names = get_args(CostName)
    if isinstance(cost, str) and not (is_address(cost) or cost in names or is_metric_name(cost)):
        raise ValueError(
            f"cost is {cost!r}; it must be one of {', '.join(names)}, a metric of texts such as "
            "wer, or the address of a function, package.module:function"
        )


def check_function(cost: object, name: str) -> None:
    """Check that a cost can be called with the arguments of one.

    Args:
        cost: what a user gave as a cost.
        name: what to call it in messages.

    Raises:
        ValueError: if it cannot.
    """
    if not callable(cost):
        raise ValueError(f"{name} is {cost!r}; it must be a function, or the name of one")
    if not takes(cost, 4):
        raise ValueError(
            f"{name} must be a function of four arguments: outputs, their lengths, references, and "
            "their lengths (see freerun.costs.Cost); freerun.costs.PythonCost makes one of a "
            "function of an output and a reference"
        )


def try_cost(cost: str | Cost, vocabulary: Vocabulary, batch: Batch, method: str) -> None:
    """Compute the cost of a user for a few targets, compared with themselves.

    Args:
        cost: the setting of a method, after `Method.for_codec`.
        vocabulary: the vocabulary of outputs.
        batch: the examples with these targets.
        method: the name of the method's class, for messages.

    Raises:
        ValueError: if there is not one cost for each, or one is not finite.
    """
    if isinstance(cost, str) and cost in get_args(CostName):
        return
    everything = torch.arange(len(batch.target))
    targets = Samples(everything, batch.target, batch.mask)
    targets.compute_costs(batch, vocabulary, resolve_cost(cost, vocabulary, method))


def resolve_cost(cost: str | Cost | None, vocabulary: Vocabulary, method: str) -> Cost:
    """Return a cost for outputs of a vocabulary, given its name, its address, or itself.

    Args:
        cost: the setting of a method.
        vocabulary: the vocabulary of outputs.
        method: the name of the method's class, for messages.

    Raises:
        ValueError: if there is none, it cannot be imported, or does not match the vocabulary.
    """
    if cost is None:
        raise ValueError(
            f"{method}.cost is None: choose a cost; training on a task uses that of the task"
        )
    if not isinstance(cost, str):
        return cost
    found = import_object(cost, "cost") if is_address(cost) else None
    if is_metric(found) or (cost not in get_args(CostName) and is_metric_name(cost)):
        raise ValueError(f"cost {cost!r}: it is a metric of texts; call for_codec first")
    if is_address(cost):
        if not callable(found):
            raise ValueError(f"cost {cost!r}: it is not a function")
        check_function(found, f"cost {cost!r}")
        return found
    if vocabulary.eos is not None and cost in EQUAL_LENGTH_COSTS:
        raise ValueError(
            f"cost={cost} compares equal lengths, but these outputs end in eos, at any "
            "length: use edit_distance"
        )
    return make_cost(cost, vocabulary.symbols, vocabulary.unknown)


def find_limits(
    policy: Policy, batch: Batch, stretch: float, max_lengths: Int[Tensor, "b"] | None = None
) -> Int[Tensor, "b"]:
    """Return the maximum length of own outputs: that of the policy, and at least that of targets.

    Args:
        policy: the model.
        batch: the examples.
        stretch: the maximum length as a multiple of the target with its eos.
        max_lengths: another maximum for each example; by default none.
    """
    longest = (batch.lengths * stretch).clamp(max=UNLIMITED).ceil().long()
    if max_lengths is not None:
        longest = torch.minimum(longest, max_lengths)
    return torch.maximum(torch.minimum(policy.limit(batch.source), longest), batch.lengths)


def count_text(
    tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], eos: int | None
) -> Int[Tensor, "n"]:
    """Return the lengths of rows without eos; rows that were cut off have none."""
    if eos is None:
        return lengths
    last = tokens.gather(1, lengths.clamp(min=1)[:, None] - 1)[:, 0]
    return lengths - ((last == eos) & (lengths > 0)).long()


@dataclass(frozen=True)
class Samples:
    """Outputs for the examples of a batch.

    Attributes:
        rows: the example of each output, by its row in the batch.
        tokens: the tokens of each output, eos included.
        mask: true on these tokens, false on the padding that follows them.
    """

    rows: Int[Tensor, "n"]
    tokens: Int[Tensor, "n t"]
    mask: Bool[Tensor, "n t"]

    def select(self, places: Int[Tensor, "k"]) -> Samples:
        """Return the outputs at some places."""
        return Samples(self.rows[places], self.tokens[places], self.mask[places])

    def trim(self) -> Samples:
        """Return the outputs without the columns that are padding in every row."""
        longest = int(self.mask.sum(1).max())
        return Samples(self.rows, self.tokens[:, :longest], self.mask[:, :longest])

    def read(self, policy: Policy, batch: Batch) -> Trace:
        """Let the policy read the outputs in one pass, with gradient and as training reads."""
        inputs = shift_right(self.tokens, policy.vocabulary.bos)
        if len(self.rows) > len(batch.ids):  # sources are shared
            return policy.force_outputs(batch.source, self.rows, inputs)
        return policy.force(batch.source.select(self.rows), inputs)

    def log_probs(self, trace: Trace) -> Float[Tensor, "n t"]:
        """Return the log-probability of each token, and 0 on padding.

        These are the exact ones of the distribution that samples are drawn from: all tokens, at
        temperature 1, eos included. Their sum is that of the output.

        Args:
            trace: what `read` returned.
        """

        def gather(scores: Tensor, tokens: Tensor) -> Tensor:
            return promote_scores(scores).log_softmax(-1).gather(1, tokens[:, None])[:, 0]

        found = trace.map_scores(self.mask, gather, self.tokens[self.mask])
        return found.new_zeros(self.mask.shape).masked_scatter(self.mask, found)

    def compute_costs(self, batch: Batch, vocabulary: Vocabulary, cost: Cost) -> Float[Tensor, "n"]:
        """Return the cost of each output, given the target of its example; eos is left out.

        Raises:
            ValueError: if there is not one cost for each, or one is not finite.
        """
        eos, targets = vocabulary.eos, batch.target[self.rows]
        lengths = count_text(self.tokens, self.mask.sum(1), eos)
        target_lengths = count_text(targets, batch.lengths[self.rows], eos)
        found = cost(self.tokens, lengths, targets, target_lengths)
        return check_costs(found, len(self.rows))


def name_samples(
    batch: Batch, count: int, clock: Clock, stream: str
) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
    """Return the row in the batch of each of `count` samples of every example, and its random name.

    The name is a function of seed, stream, update, example and number of the sample.
    """
    rows = torch.arange(len(batch.ids), device=batch.ids.device).repeat_interleave(count)
    numbers = torch.arange(count, device=rows.device).repeat(len(batch.ids))
    return rows, random_bits(clock.seed, stream, clock.step, batch.ids[rows], numbers)


def draw_samples(
    policy: Policy,
    batch: Batch,
    count: int,
    clock: Clock,
    *,
    stretch: float,
    given: Int[Tensor, "b"] | None = None,
    max_lengths: Int[Tensor, "b"] | None = None,
) -> Samples:
    """Let the policy sample outputs, `count` for each example, one after the other.

    The random numbers are functions of seed, update, example, number of the sample and cell, so an
    example has the same samples in any batch.

    Args:
        policy: the model; writes in evaluation mode and without gradient.
        batch: the examples.
        count: the number of samples of each.
        clock: the progress of training.
        stretch: the maximum length as a multiple of the target with its eos.
        given: the number of tokens that come from the target, before own ones; by default none.
        max_lengths: the maximum length for another model that reads the samples; by default none.
            Samples may always be as long as the target.
    """
    rows, names = name_samples(batch, count, clock, "samples")

    def draw(scores: Float[Tensor, "k a"], which: Int[Tensor, "k"], cell: int) -> Int[Tensor, "k"]:
        return sample_tokens(promote_scores(scores).log_softmax(-1), names[which], cell)

    limit = find_limits(policy, batch, stretch, max_lengths)
    return _write(policy, batch, rows, draw, limit, given)


def write_greedily(
    policy: Policy, batch: Batch, *, stretch: float, given: Int[Tensor, "b"] | None = None
) -> Samples:
    """Let the policy write one output for each example greedily; see `draw_samples`."""

    def choose(
        scores: Float[Tensor, "k a"], which: Int[Tensor, "k"], cell: int
    ) -> Int[Tensor, "k"]:
        return scores.argmax(-1)

    rows = torch.arange(len(batch.ids), device=batch.ids.device)
    return _write(policy, batch, rows, choose, find_limits(policy, batch, stretch), given)


def _write(
    policy: Policy,
    batch: Batch,
    rows: Int[Tensor, "n"],
    choose: CellChooser,
    limit: Int[Tensor, "b"],
    given: Int[Tensor, "b"] | None,
) -> Samples:
    """Write outputs with a choice of tokens, after the given tokens of the target."""

    def choose_own(
        scores: Float[Tensor, "k a"], which: Int[Tensor, "k"], cell: int
    ) -> Int[Tensor, "k"]:
        chosen = choose(scores, which, cell)
        if given is None or cell >= batch.target.shape[1]:
            return chosen
        examples = rows[which]
        return torch.where(cell < given[examples], batch.target[examples, cell], chosen)

    tokens, lengths = write_outputs(policy, batch.source, limit[rows], choose_own, rows=rows)
    return Samples(rows, tokens, length_mask(tokens.shape[1], lengths))


Self = TypeVar("Self", bound="CostMethod")


@dataclass(frozen=True, kw_only=True)
class CostMethod(Method):
    """Base of methods that learn from the costs of the policy's own samples.

    Args:
        cost: Δ, the cost of an output: one of `freerun.costs`, a metric of texts such as wer, or
            the address of a function of either kind, `package.module:function`; by default the cost
            of the task. In Python also the function: a `freerun.costs.Cost`, a
            `freerun.costs.PythonCost`, or a `freerun.metrics.Metric`.
        warm_up: the fraction of updates, at the start of training, that are maximum likelihood; in
            [0, 1). A model without training samples nothing that its costs could improve.
        stretch: the maximum length of a sample, as a multiple of the target with its eos; at least
            1.

    Raises:
        ValueError: if a setting is out of range.
    """

    cost: str | Cost | None = None
    warm_up: float = 0.5
    stretch: float = 1.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_cost(self.cost)
        check_warm_up(self.warm_up)
        check_range("stretch", self.stretch, 1)

    def for_task(self: Self, task: Task) -> Self:
        """Return this method with the cost of the task, if none was chosen."""
        return self if self.cost is not None else replace(self, cost=task.cost)

    def for_codec(self: Self, codec: Codec) -> Self:
        """Return this method with a metric of texts as a cost of tokens, if it is the cost."""
        return replace(self, cost=bind_cost(self.cost, codec))

    def check(self, vocabulary: Vocabulary) -> None:
        """Check that the cost is known and matches the vocabulary, which has no backspace.

        Raises:
            ValueError: if it does not.
        """
        refuse_backspace(vocabulary, self.name)
        resolve_cost(self.cost, vocabulary, type(self).__name__)

    def loss(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules = NO_MODULES
    ) -> Outcome:
        """Compute the log loss of the targets in the warm-up, and the loss of own samples after it.

        Both are divided by the number of target tokens.

        Raises:
            ValueError: if an example has no target, the cost does not match the vocabulary, or a
                cost is not finite.
        """
        batch.target_tokens()
        cost = resolve_cost(self.cost, policy.vocabulary, type(self).__name__)
        if clock.step < self.warm_up * clock.total:
            return MLE().loss(policy, batch, clock)
        return self.learn_costs(policy, batch, clock, modules, cost)

    @abstractmethod
    def learn_costs(
        self, policy: Policy, batch: Batch, clock: Clock, modules: Modules, cost: Cost
    ) -> Outcome:
        """Compute the loss of own samples, after the warm-up."""


def add_parameters(outcome: Outcome, modules: Modules) -> Outcome:
    """Return an outcome to which every trained parameter of modules contributes, if only zero."""
    nothing = sum((0 * parameter.sum() for parameter in modules.trained.parameters()), 0.0)
    return replace(outcome, total=outcome.total + nothing)


def weigh_by_length(values: Float[Tensor, "b"], batch: Batch) -> Float[Tensor, ""]:
    """Return the mean of a metric of examples, weighted by the lengths of their targets.

    Metrics of batches are averaged with the weight of their target tokens, so this mean does not
    depend on how an update is split into batches.
    """
    weights = batch.lengths.to(values.dtype)
    return (values.detach() * weights).sum() / weights.sum()


def check_positive(name: str, value: float) -> None:
    """Check that a setting is finite and above 0.

    Raises:
        ValueError: if it is not.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it must be finite and above 0")
