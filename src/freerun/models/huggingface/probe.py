"""Checks of a model before it is used: a few tokens are read in every way that a policy uses.

Their scores are compared with those of the model's own forward pass, for each row alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from freerun.models.huggingface.dropout import WithoutDropout, training_mode
from freerun.models.huggingface.probe_cache import PassedProbe
from freerun.models.huggingface.probe_distance import reads_distant_slots
from freerun.models.huggingface.probe_examples import (
    CELLS,
    LONGEST,
    are_close,
    make_example,
    raise_out_of_memory,
    recompute,
)
from freerun.models.huggingface.stack import FAILURES
from freerun.policy import evaluation_mode

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

ScorePair = tuple[str, str, Float[Tensor, "n a"], Float[Tensor, "n a"]]
"""What was read, the members to override if it is wrong, the scores, and the expected scores."""


@torch.no_grad()
def check_scores(policy: HuggingFacePolicy) -> None:
    """Compare steps, forks, embeddings and rows of different lengths with plain forward passes.

    Raises:
        ValueError: if scores differ, or the model cannot be run in this way. The message says in
            which case, and what a subclass should override.
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    if policy.device.type == "meta":
        return
    name, kind = type(policy.inner).__name__, type(policy).__name__
    if _has_recurrent_layers(policy.inner):
        raise ValueError(
            f"{name} cannot be used: some of its layers keep a sum over all tokens read, so "
            "earlier states cannot be continued (see docs/models.md)"
        )
    passed = PassedProbe(policy, "scores")
    if passed.is_stored():
        return
    wrong = None
    with evaluation_mode(policy):
        try:
            for what, override, scores, expected in _read_in_every_way(policy):
                if not are_close(scores, expected):
                    wrong = what, override, float((scores - expected).abs().max())
                    break
        except (ValueError, *FAILURES) as error:
            raise_out_of_memory(error, name)
            # The error may be in a member that a subclass overrides.
            called = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
            for override in ("project", "embed"):
                if override in called:
                    raise ValueError(
                        f"{name} cannot be used: {override} of {kind} fails ({error!r})"
                    ) from error
            raise ValueError(
                f"{name} cannot be used: it does not read rows with a cache ({error!r}); override "
                f"read in a subclass of {kind} and register it with register_policy"
            ) from error
    if wrong is not None:
        what, override, difference = wrong
        raise ValueError(
            f"{name} cannot be used: its scores of {what} differ from its own forward pass by "
            f"{difference:.2g}; override {override} in a subclass of {kind} and register it with "
            "register_policy"
        )
    passed.store()


def _has_recurrent_layers(model: PreTrainedModel) -> bool:
    """Return whether a model has recurrent layers: state-space models and linear attention."""
    if getattr(model, "_is_stateful", False):
        return True
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return any("LinearAttention" in type(layer).__name__ for layer in layers)


@torch.no_grad()
def can_read_trees(policy: HuggingFacePolicy) -> bool:
    """Return whether the scores of a tree of prefixes are those of each of its paths alone.

    Raises:
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    if policy.device.type == "meta":
        return False
    passed = PassedProbe(policy, "trees")
    if passed.is_stored():
        return True
    try:
        with evaluation_mode(policy):
            found = _reads_small_tree(policy) and reads_distant_slots(policy)
    except (ValueError, *FAILURES) as error:
        raise_out_of_memory(error, type(policy.inner).__name__)
        return False
    if found:
        passed.store()
    return found


def _reads_small_tree(policy: HuggingFacePolicy) -> bool:
    """Return whether the scores of a tree of two paths are right."""
    source, inputs = make_example(policy)
    tree = torch.cat([inputs, inputs[:, 1:].flip(1)], 1)
    parents = torch.tensor([-1, 0, 1, 2, 0, 4, 5], device=inputs.device)
    everywhere = torch.ones_like(tree, dtype=torch.bool)
    trace = policy.force(source, tree, parents.expand_as(tree))
    scores = trace.logits(everywhere).unflatten(0, tree.shape)
    return all(
        are_close(scores[:, path], recompute(policy, source, tree[:, path]))
        for path in ([0, 1, 2, 3], [0, 4, 5, 6])
    )


@torch.no_grad()
def can_continue_rows(policy: HuggingFacePolicy) -> bool:
    """Return whether rows that continue states by several tokens at once score as whole rows do.

    Raises:
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    if policy.device.type == "meta":
        return False
    with evaluation_mode(policy):
        source, inputs = make_example(policy)
        rows = torch.tensor([2, 0, 1, 1], device=inputs.device)
        inputs = inputs[rows.flip(0)]
        everywhere = torch.ones_like(inputs, dtype=torch.bool)
        expected = policy.force(source.select(rows), inputs).logits(everywhere)
        try:
            trace = policy.continue_rows(policy.start(source).select(rows), inputs)
            return are_close(trace.logits(everywhere), expected)
        except (ValueError, *FAILURES) as error:
            raise_out_of_memory(error, type(policy.inner).__name__)
            return False


@torch.no_grad()
def can_share_sources(policy: HuggingFacePolicy) -> bool:
    """Return whether rows that share the keys and values of a source score as those with their own.

    Raises:
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    if policy.device.type == "meta":
        return False
    with evaluation_mode(policy):
        source, inputs = make_example(policy)
        _, state = policy.step(policy.start(source), inputs[:, 0])
        expected, _ = policy.step(state, inputs[:, 1])
        rows = torch.tensor([2, 0, 2, 2, 0], device=inputs.device)  # one source has none
        try:
            scores, _ = policy.step(state.select(rows), inputs[rows, 1])
        except (ValueError, *FAILURES) as error:
            raise_out_of_memory(error, type(policy.inner).__name__)
            return False
        return are_close(scores, expected[rows])


@torch.no_grad()
def check_dropout(policy: HuggingFacePolicy, probability: float) -> None:
    """Check that all dropout of a model has one probability.

    Raises:
        ValueError: if it has another one, or no dropout.
    """
    if policy.device.type == "meta":
        return
    source, inputs = make_example(policy)
    with training_mode(policy), WithoutDropout() as mode:
        policy.force(source, inputs).logits(torch.ones_like(inputs, dtype=torch.bool))
    name = type(policy.inner).__name__
    # Attention without dropout has a probability of 0.
    others = {seen for seen in mode.seen if seen not in (0.0, probability)}
    if others:
        raise ValueError(
            f"dropout cannot be {probability} everywhere in {name}: there is one of {min(others)}"
        )
    if probability > 0 and probability not in mode.seen:
        raise ValueError(f"dropout has no effect: {name} has none")


def _read_in_every_way(policy: HuggingFacePolicy) -> Iterator[ScorePair]:
    source, inputs = make_example(policy)
    expected = recompute(policy, source, inputs)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    # A row without padding: if its scores are wrong, so is the head.
    longest = torch.tensor([LONGEST], device=inputs.device)
    alone = policy.force(source.select(longest), inputs[longest]).logits(everywhere[longest])
    yield "a row alone", "embed, read or project", alone, expected[longest].flatten(0, 1)
    trace = policy.force(source, inputs)
    yield "rows of different lengths", "read", trace.logits(everywhere), expected.flatten(0, 1)
    embedded = policy.force(source, policy.embed(inputs)).logits(everywhere)
    yield "embeddings in place of tokens", "embed", embedded, expected.flatten(0, 1)
    state = policy.start(source)
    for cell in range(CELLS):
        scores, state = policy.step(state, inputs[:, cell])
        yield "tokens read one by one", "read", scores, expected[:, cell]
    rows = torch.tensor([2, 0, 1, 1], device=inputs.device)
    cells = torch.tensor([0, CELLS - 2, 1, 0], device=inputs.device)
    forked = trace.fork(rows, cells)
    scores, _ = policy.step(forked, inputs[rows, cells + 1])
    yield "forks of rows at different cells", "read", scores, expected[rows, cells + 1]
    with training_mode(policy), WithoutDropout():
        scores = policy.force(source, inputs).logits(everywhere)
    what = "rows in training mode, without dropout"
    yield what, "read", scores, expected.flatten(0, 1)
