"""Checks of a model before it is used: a few tokens are read in every way that a policy uses.

Their scores are compared with those of the model's own forward pass, for each row alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache

from freerun.batch import Source
from freerun.models.huggingface.cache import GrowingLayer, KeyValues
from freerun.models.huggingface.dropout import WithoutDropout, training_mode
from freerun.models.huggingface.probe_cache import PassedProbe
from freerun.models.huggingface.stack import FAILURES
from freerun.policy import evaluation_mode

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy
    from freerun.models.huggingface.state import CacheState

SOURCES = (2, 5, 1)
"""The lengths of the sources."""

CELLS = 4
"""The number of cells of each row."""

LONGEST_WINDOW = 2**15
"""The largest window of attention that can be detected."""

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
            found = _reads_small_tree(policy) and _reads_distant_slots(policy)
    except (ValueError, *FAILURES) as error:
        raise_out_of_memory(error, type(policy.inner).__name__)
        return False
    if found:
        passed.store()
    return found


def _reads_small_tree(policy: HuggingFacePolicy) -> bool:
    """Return whether the scores of a tree of two paths are right."""
    source, inputs = _make_example(policy)
    tree = torch.cat([inputs, inputs[:, 1:].flip(1)], 1)
    parents = torch.tensor([-1, 0, 1, 2, 0, 4, 5], device=inputs.device)
    everywhere = torch.ones_like(tree, dtype=torch.bool)
    trace = policy.force(source, tree, parents.expand_as(tree))
    scores = trace.logits(everywhere).unflatten(0, tree.shape)
    return all(
        are_close(scores[:, path], _recompute(policy, source, tree[:, path]))
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
        source, inputs = _make_example(policy)
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
        source, inputs = _make_example(policy)
        _, state = policy.step(policy.start(source), inputs[:, 0])
        expected, _ = policy.step(state, inputs[:, 1])
        rows = torch.tensor([2, 0, 2, 2, 0], device=inputs.device)  # one source has none
        try:
            scores, _ = policy.step(state.select(rows), inputs[rows, 1])
        except (ValueError, *FAILURES) as error:
            raise_out_of_memory(error, type(policy.inner).__name__)
            return False
        return are_close(scores, expected[rows])


class _DistantLayer(GrowingLayer):
    """Old keys and values, then slots that are masked, then new ones; the pass stores nothing."""

    def __init__(self, buffers: tuple[Tensor, Tensor], used: int, between: int) -> None:
        super().__init__(buffers, used)
        self.between = between

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Return all keys and values."""
        return self._join(self.keys, key_states), self._join(self.values, value_states)

    def get_seq_length(self) -> int:
        """Return the number of slots before the new ones."""
        return self.used + self.between

    def _join(self, old: Tensor, new: Tensor) -> Tensor:
        hole = old[:, :, :1].expand(-1, -1, self.between, -1)
        return torch.cat([old, hole, new], 2)


class _StaticDistantLayer(_DistantLayer):
    """The same in a buffer: the number of the new slot is a tensor, and free slots come last."""

    is_compileable = True

    def get_seq_length(self) -> Any:
        """Return the number of slots before the new ones."""
        return torch.tensor(super().get_seq_length(), device=self.keys.device)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of slots, and that of the first."""
        return self.used + 2 * self.between + query_length, 0

    def _join(self, old: Tensor, new: Tensor) -> Tensor:
        free = new.expand(-1, -1, self.between, -1)
        return torch.cat([super()._join(old, new), free], 2)


@dataclass(frozen=True)
class _DistantKeyValues(KeyValues):
    """Keys and values, followed by a number of masked slots."""

    between: int = 0
    layer: type[_DistantLayer] = _DistantLayer

    def make_cache(self) -> Cache:
        """Return a cache for one pass."""
        every = self._own_layers()
        return Cache(layers=[self.layer(buffers, self.used, self.between) for buffers in every])

    def extend(self, cache: Cache) -> KeyValues:
        """Return the keys and values before the pass, which stores nothing."""
        return self


def _reads_distant_slots(policy: HuggingFacePolicy) -> bool:
    """Return whether a step returns the right scores if the tokens before lie many slots back.

    Withdrawn tokens leave masked slots between those of their row. A model that attends to a
    bounded number of slots, or in chunks, would miss tokens; one that counts slots would place them
    too far away. Any integer of its configuration may be such a bound, so there are more slots than
    the largest. Only a few tokens are read, and no layer stores its slots, so this takes about as
    long as a step.
    """
    state, token = _read_example(policy)
    expected, _ = policy.step(state, token)
    hidden = _read_last(policy, state, token, *_hide_between(policy, state.past))
    return are_close(policy.project(hidden), expected)


@torch.no_grad()
def masks_by_numbers(policy: HuggingFacePolicy) -> bool | None:
    """Return whether the masks of static steps can be numbers to add to attention scores.

    A model with a sliding window makes such numbers from a mask that is true on the slots to attend
    to; where it is given numbers, it has no window. So tokens lie further apart than any window is
    long, and as many free slots come after them, as in a buffer.

    Returns:
        False if masks must be true or false; None if the scores are wrong in both cases.

    Raises:
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    state, token = _read_example(policy)
    far, mask = _hide_between(policy, state.past)
    expected = _read_last(policy, state, token, far, mask)
    static = replace(far, layer=_StaticDistantLayer)
    mask = F.pad(mask, (0, far.between))
    numbers = torch.zeros(mask.shape, dtype=policy.dtype, device=mask.device)
    numbers = numbers.masked_fill(~mask, torch.finfo(numbers.dtype).min)[:, None, None]

    def is_right(given: Tensor) -> bool:
        try:
            return are_close(_read_last(policy, state, token, static, given), expected)
        except (ValueError, *FAILURES) as error:
            raise_out_of_memory(error, type(policy.inner).__name__)
            return False

    return True if is_right(numbers) else False if is_right(mask) else None


def _read_example(policy: HuggingFacePolicy) -> tuple[CacheState, Int[Tensor, "1"]]:
    """Return the state of a row after some tokens, and the next token."""
    source, inputs = _make_example(policy)
    longest = torch.tensor([SOURCES.index(max(SOURCES))], device=inputs.device)
    state = policy.start(source.select(longest))
    for cell in range(CELLS - 1):
        _, state = policy.step(state, inputs[longest, cell])
    return state, inputs[longest, -1]


def _hide_between(
    policy: HuggingFacePolicy, past: KeyValues
) -> tuple[_DistantKeyValues, Bool[Tensor, "1 l"]]:
    """Return keys and values with many slots behind them, and the mask that hides these."""
    used, distance = past.used, _find_distance(policy)
    mask = torch.ones(1, used + distance + 1, dtype=torch.bool, device=policy.device)
    mask[:, used : used + distance] = False
    return _DistantKeyValues(past.store, used, distance), mask


def _read_last(
    policy: HuggingFacePolicy,
    state: CacheState,
    token: Int[Tensor, "1"],
    far: _DistantKeyValues,
    mask: Bool[Tensor, "1 l"] | Float[Tensor, "1 1 1 l"],
) -> Float[Tensor, "1 h"]:
    """Return the last hidden state after one more token."""
    position = state.position[:, None]
    hidden, _, _ = policy.read(token[:, None], position, mask, far, state.encoder)
    return hidden[:, -1]


def _find_distance(policy: HuggingFacePolicy) -> int:
    """Return a number of slots beyond every integer that may bound attention."""
    rows = policy.decoder.get_input_embeddings().weight.shape[0]
    found = [
        number
        for number in _list_integers(policy.config.to_dict())
        if number <= LONGEST_WINDOW and number != rows
    ]
    return max(found, default=0) + 2


def _list_integers(value: object) -> Iterator[int]:
    """Yield all integers in a configuration, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _list_integers(each)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


@torch.no_grad()
def check_dropout(policy: HuggingFacePolicy, probability: float) -> None:
    """Check that all dropout of a model has one probability.

    Raises:
        ValueError: if it has another one, or no dropout.
    """
    if policy.device.type == "meta":
        return
    source, inputs = _make_example(policy)
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


def raise_out_of_memory(error: Exception, name: str) -> None:
    """Raise an OutOfMemoryError if an error says that memory is not sufficient."""
    # On a CPU and in cuBLAS and cuDNN, torch raises a plain RuntimeError.
    signs = ("can't allocate memory", "ALLOC_FAILED")
    if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs):
        raise torch.OutOfMemoryError(
            f"out of memory while the scores of {name} were checked on a few short rows: {error}"
        ) from error


def are_close(scores: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> bool:
    """Return whether scores are equal, up to the precision of their dtype."""
    half = scores.dtype in (torch.float16, torch.bfloat16)
    scale = 1 + float(expected.abs().max())
    return float((scores - expected).abs().max()) <= (5e-2 if half else 1e-3) * scale


def _read_in_every_way(policy: HuggingFacePolicy) -> Iterator[ScorePair]:
    source, inputs = _make_example(policy)
    expected = _recompute(policy, source, inputs)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    # The longest row has no padding: if its scores are wrong, so is the head.
    longest = torch.tensor([SOURCES.index(max(SOURCES))], device=inputs.device)
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


def _make_example(policy: HuggingFacePolicy) -> tuple[Source, Int[Tensor, "b t"]]:
    """Return some sources, and inputs to read after them."""
    vocabulary = policy.vocabulary
    cells = torch.arange(CELLS, device=policy.device)
    rows = torch.arange(len(SOURCES), device=policy.device)[:, None]
    inputs = (5 * rows + 2 * cells + 1) % vocabulary.actions
    # Some decoders give padding no position.
    other = next(a for a in range(vocabulary.actions) if a != vocabulary.pad)
    inputs = inputs.where(inputs != vocabulary.pad, other)
    inputs[:, 0] = vocabulary.bos
    return policy.make_example_source(SOURCES), inputs


def _recompute(
    policy: HuggingFacePolicy, source: Source, inputs: Int[Tensor, "b t"]
) -> Float[Tensor, "b t a"]:
    """Return the scores of the model's own forward pass, for each row alone."""
    found, prefix = [], inputs.new_tensor(policy.prefix)
    for row, length in enumerate(source.lengths.tolist()):
        alone = Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
        read, written = policy.name_inputs(alone), inputs[row]
        if policy.config.is_encoder_decoder:
            read["decoder_input_ids"] = torch.cat([prefix, written])[None]
        else:
            written = written[1:] if policy.shared else written
            read["input_ids"] = torch.cat([read["input_ids"][0], written])[None]
        scores = policy.inner(**read, use_cache=False).logits[0, -CELLS:]
        found.append(scores[:, : policy.vocabulary.actions])
    return torch.stack(found)
