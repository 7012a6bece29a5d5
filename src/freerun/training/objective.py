"""The module that is trained: a policy and a method, whose forward pass computes the loss."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from freerun.batch import Batch, Source
from freerun.evaluation import Decoding, decode_with_errors, teacher_forced_total
from freerun.methods import Clock, Method, Modules, Outcome
from freerun.policy import Policy, evaluation_mode
from freerun.settings import SettingError

_WHOLE = ("base_model_prefix", "get_input_embeddings", "get_output_embeddings")
"""accelerate uses these to shard layers separately; but a policy is sharded as a whole."""
_LOGGED = ("loss", "grad_norm", "learning_rate", "epoch", "step")
"""What transformers logs together with the metrics of a method."""


class Objective(nn.Module):
    """A policy and the method that trains it.

    All computation of a method, including roll-outs, happens inside `forward`, so wrappers of this
    module (data parallelism, mixed precision) see every use of the policy. `clock` must be set
    before each update. Other attributes that transformers expects on a model are those of the
    policy.

    Args:
        model: the policy.
        method: the method. The objective makes a copy, so that runs do not share its state.
        seed: the seed of the run, which also determines the initial weights of the method's
            modules.

    Attributes:
        method_modules: the modules of the method.
    """

    accepts_loss_kwargs = True
    model: Policy

    def __init__(self, model: Policy, method: Method, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        # A method may have state, such as a buffer, so each run has its own copy.
        self.method = copy.deepcopy(method)
        self.method_modules = draw_modules(self.method, self.model, seed)
        self.clock = Clock(seed=seed)
        self._counts: list[Tensor] = []
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def forward(
        self,
        ids: Int[Tensor, "b"],
        source: Tensor,
        source_mask: Bool[Tensor, "b s"],
        target: Int[Tensor, "b t"],
        target_mask: Bool[Tensor, "b t"],
        num_items_in_batch: Tensor | int | None = None,
        decoding: Decoding | None = None,
    ) -> dict[str, Any]:
        """Compute the loss of a batch or, with `decoding`, decode it.

        Args:
            ids: the number of each example in the whole data set.
            source: the sources.
            source_mask: true on the positions of sources, false on padding.
            target: the targets.
            target_mask: true on target tokens, eos included.
            num_items_in_batch: the number of target tokens in the whole update, over all its
                batches and ranks; None for the number that the method counts in this batch.
            decoding: decode with these settings, without gradient, instead of computing the loss.

        Returns:
            `loss`, the sum of the losses of this batch, divided by `num_items_in_batch`;
            or `decoded`, with `planted` (which actions are planted errors, if there are any) and
            `teacher_forced` (the log loss under teacher forcing, as a sum).

        Raises:
            ValueError: if an example has no target tokens to learn from.
            SettingError: if the loss is not an `Outcome` of numbers, has no gradient where one is
                needed, or has a metric with a name of the log.
        """
        batch = Batch(ids, Source(source, source_mask), target, target_mask)
        if decoding is not None:
            with torch.no_grad(), evaluation_mode(self.model):
                decoded, planted = decode_with_errors(self.model, batch.source, decoding, ids=ids)
                return {
                    "decoded": decoded,
                    "planted": planted,
                    "teacher_forced": teacher_forced_total(self.model, batch),
                }
        empty = ~target_mask.any(1)
        if bool(empty.any()):
            raise ValueError(
                f"example {int(ids[empty][0])} has no target tokens, so there is nothing to learn "
                "from it; leave it out of the data"
            )
        outcome = self.method.loss(self.model, batch, self.clock, self.method_modules)
        name = type(self.method).__name__
        check_outcome(outcome, name)
        if torch.is_grad_enabled() and not outcome.total.requires_grad:
            raise SettingError(f"{name}.loss has no gradient: it depends on no trained weight")
        count = torch.as_tensor(outcome.count, device=outcome.total.device).detach()
        self._counts.append(count)
        self._add(outcome.metrics, count)
        items = count if num_items_in_batch is None else num_items_in_batch
        return {"loss": outcome.total / items}

    @property
    def config(self) -> Any:
        """A copy of the policy's configuration.

        transformers' Trainer sets `use_cache` to false on its model. This must not affect the
        policy, which would then decode without its cache.
        """
        return copy.copy(self.model.config)

    def __getattr__(self, name: str) -> Any:
        """Look up other attributes, such as checkpointing switches, on the policy."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            inside = "model" in self.__dict__.get("_modules", {})
            if name.startswith("__") or name in _WHOLE or not inside:
                raise
            return getattr(self.model, name)

    def begin_update(self, clock: Clock) -> None:
        """Set the clock, and discard the counts of an interrupted update."""
        self.clock, self._counts = clock, []

    def take_count(self) -> Tensor:
        """Return the method's count since the last call, over all batches of this process."""
        count = torch.stack(self._counts).sum()
        self._counts = []
        return count

    def check_count(self, count: Tensor) -> None:
        """Check the count of an update, over all its batches and ranks.

        Raises:
            SettingError: if it is not above 0.
        """
        if not float(count) > 0:
            raise SettingError(
                f"{type(self.method).__name__}.loss: the counts of update {self.clock.step + 1} "
                f"add up to {float(count):g}; the sum must be above 0"
            )

    def drain(self) -> dict[str, tuple[float, float]]:
        """Return the weighted sum and the weight of each metric of the method since the last call.

        Metrics are weighted by counts. So accumulation and ranks do not change a mean over the
        terms that are counted; they may change one over anything else, such as cells or sequences.
        """
        sums = {name: (float(total), float(count)) for name, (total, count) in self._sums.items()}
        self._sums = {}
        return sums

    def _add(self, metrics: Mapping[str, Tensor | int | float], weight: Tensor) -> None:
        for name, value in metrics.items():
            number = value.detach() if isinstance(value, Tensor) else float(value)
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + number * weight, count + weight)


def check_outcome(outcome: object, name: str) -> None:
    """Check the types and shapes of what a method returned as its loss, but no value.

    Reading a number from a GPU waits for all queued work.

    Args:
        outcome: what the method returned.
        name: the name of the method's class.

    Raises:
        SettingError: if it is not an `Outcome` of numbers, or a metric has a name of the log.
    """
    if not isinstance(outcome, Outcome):
        kind = type(outcome).__name__
        raise SettingError(f"{name}.loss returned a {kind}; it must return an Outcome")
    scalar = "a tensor without dimensions"
    _check_number(outcome.total, f"{name}.loss: total", scalar, Tensor)
    _check_number(outcome.count, f"{name}.loss: count", f"a number or {scalar}", Tensor | Real)
    if not isinstance(outcome.metrics, Mapping):
        kind = type(outcome.metrics).__name__
        raise SettingError(f"{name}.loss: metrics is of type {kind}; it must be a dictionary")
    for metric, value in outcome.metrics.items():
        what = f"{name}.loss: the metric {metric!r}"
        if metric in _LOGGED or f"{metric}".startswith("eval_"):
            raise SettingError(f"{what} has a name that the log uses itself; choose another name")
        _check_number(value, what, f"a number or {scalar}", Tensor | Real)


def _check_number(value: object, what: str, expected: str, kinds: Any) -> None:
    if isinstance(value, kinds) and (not isinstance(value, Tensor) or value.ndim == 0):
        return
    found = f"of type {type(value).__name__}"
    if isinstance(value, Tensor):
        found = f"a tensor of shape {tuple(value.shape)}"
    raise SettingError(f"{what} is {found}; it must be {expected}")


def draw_modules(method: Method, policy: Policy, seed: int) -> Modules:
    """Build the modules of a method from a seed, without changing the state of torch's generator.

    So runs with the same seed have the same dropout masks, regardless of the modules of their
    methods.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method.build_modules(policy)
