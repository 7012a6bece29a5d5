"""Metrics of texts as costs of tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs import Cost, CostName
from freerun.costs.rows import check_pairs, split_rows
from freerun.data import Codec
from freerun.imports import import_object, is_address
from freerun.metrics import METRICS, Metric, Statistics, find_metric
from freerun.metrics.scoring import compare_texts


class MetricCost:
    """A metric of texts as a cost: lower is better, so others are multiplied by -1.

    Outputs are decoded and normalized as for metrics, and each different pair of an output and a
    reference is computed once. A metric that returns `Statistics` is computed for all pairs
    together; others are called pair by pair, which is far slower than a batched cost.

    Args:
        metric: the metric.
        codec: the codec of outputs.

    Raises:
        ValueError: if the metric is not one of texts, does not compare each output with its own
            reference, or has no better direction.
    """

    def __init__(self, metric: Metric, codec: Codec) -> None:
        if metric.form != "text" or metric.corpus or metric.greater_is_better is None:
            raise ValueError(
                f"the metric {metric.name} cannot be a cost, which compares the text of each "
                "output with its own reference, and has a better direction"
            )
        self.metric, self.codec = metric, codec
        self.sign = -1.0 if metric.greater_is_better else 1.0

    def __deepcopy__(self, known: dict[int, Any]) -> MetricCost:
        """Return itself, as it has no state."""
        return self

    def __call__(
        self,
        hypotheses: Int[Tensor, "n h"],
        hypothesis_lengths: Int[Tensor, "n"],
        references: Int[Tensor, "n r"],
        reference_lengths: Int[Tensor, "n"],
    ) -> Float[Tensor, "n"]:
        """Compute the metric of each pair, in double precision.

        Raises:
            ValueError: if shapes or lengths are wrong.
            SettingError: if the metric does not return a finite number.
        """
        check_pairs(hypotheses, hypothesis_lengths, references, reference_lengths)
        ours = map(tuple, split_rows(hypotheses, hypothesis_lengths))
        theirs = map(tuple, split_rows(references, reference_lengths))
        pairs = [*zip(ours, theirs, strict=True)]
        numbers = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
        values = torch.tensor(self._measure([*numbers]), dtype=torch.float64)
        index = torch.tensor([numbers[pair] for pair in pairs], dtype=torch.int64)
        return (self.sign * values[index]).to(hypotheses.device)

    def _measure(self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
        """Return the value of each pair of tokens."""
        if not pairs:
            return []
        texts = {row: self.codec.decode(row) for _, row in pairs}
        outputs, wanted = compare_texts(
            self.codec, [row for row, _ in pairs], [texts[row] for _, row in pairs]
        )
        value, statistics = self.metric.measure(outputs[:1], wanted[:1])
        if statistics is None:
            rest = zip(outputs[1:], wanted[1:], strict=True)
            return [value, *(self.metric([output], [text]) for output, text in rest)]
        found = self.metric.measure(outputs, wanted)[1]
        assert isinstance(found, Statistics)  # noqa: S101  # as for the first pair
        return [float(each) for each in found.compute(found.rows)]


def bind_cost(cost: str | Cost | None, codec: Codec) -> str | Cost | None:
    """Return a metric of texts, its name or its address, as a cost for outputs of a codec.

    All other costs are returned unchanged.

    Raises:
        ValueError: if the metric cannot be a cost, or nothing is found at the address.
    """
    if isinstance(cost, Metric):
        return MetricCost(cost, codec)
    if not isinstance(cost, str) or cost in get_args(CostName):
        return cost
    if is_address(cost) and not is_metric(import_object(cost, "cost")):
        return cost
    return MetricCost(find_metric(cost), codec)


def is_metric_name(cost: str) -> bool:
    """Return whether a cost is the name of a metric, perhaps with settings, as `wer` is."""
    return cost.partition(":")[0] in METRICS


def is_metric(thing: object) -> bool:
    """Return whether an object is a metric, or a function of outputs and references.

    A cost of tokens has four arguments instead.
    """
    if not inspect.isfunction(thing):
        return isinstance(thing, Metric)
    return takes(thing, 2) and not takes(thing, 4)


def takes(function: Callable[..., object], count: int) -> bool:
    """Return whether a function can be called with so many arguments, as far as it can be told."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # of some built-in functions
        return True
    try:
        signature.bind(*[()] * count)
    except TypeError:
        return False
    return True
