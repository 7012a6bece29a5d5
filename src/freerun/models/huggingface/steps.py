"""Static steps of Hugging Face models: keys and values in the buffers of a step."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from freerun.models.huggingface.cache import KeyValues, KeyValueStore, first_slots
from freerun.models.huggingface.probe_distance import masks_by_numbers
from freerun.models.huggingface.probe_examples import are_close, raise_out_of_memory
from freerun.models.huggingface.stack import FAILURES
from freerun.models.huggingface.state import EncoderOutputs
from freerun.models.steps import (
    Outputs,
    StaticSteps,
    Step,
    find_host_reads,
    make_key,
    round_positions,
    round_rows,
)
from freerun.policy import evaluation_mode

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

MIN_SLOTS = 64
"""The minimum number of slots of a buffer."""

SlotMask = Bool[Tensor, "n l"] | Float[Tensor, "n 1 1 l"] | None
"""What a new slot attends to, as in `HuggingFacePolicy.read`."""


class StaticLayer(CacheLayerMixin):
    """The keys and values of one layer, with a new slot at a number that is a tensor."""

    is_sliding = False
    is_compileable = True

    def __init__(self, keys: Tensor, values: Tensor, slot: Int[Tensor, "1"]) -> None:
        super().__init__()
        self.keys, self.values, self.slot = keys, values, slot
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: buffers are allocated before."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write the new slot, and return all of them, free ones included."""
        # Under autocast, new states may have another dtype than those that were read before.
        self.keys.index_copy_(2, self.slot, key_states.to(self.keys.dtype))
        self.values.index_copy_(2, self.slot, value_states.to(self.values.dtype))
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of slots, and that of the first."""
        return self.keys.shape[2], 0

    def get_seq_length(self) -> Any:
        """Return the number of slots that were used before."""
        return self.slot[0]

    def get_max_length(self) -> int:
        """Return the number of slots."""
        return self.keys.shape[2]


@dataclass(frozen=True)
class StaticKeyValues(KeyValues):
    """The buffers of a step as keys and values, of which a pass changes one slot.

    Attributes:
        slot: the number of the slot that the next pass writes.
    """

    slot: Int[Tensor, "1"]

    def make_cache(self) -> Cache:
        """Return a cache for one pass, which writes into the buffers."""
        return Cache(layers=[StaticLayer(k, v, self.slot) for k, v in self.store.layers])

    def extend(self, cache: Cache) -> KeyValues:
        """Return the buffers, which the pass has changed."""
        return self


def read_slot(
    policy: HuggingFacePolicy,
    tokens: Int[Tensor, "n 1"],
    positions: Int[Tensor, "n 1"],
    mask: SlotMask,
    past: KeyValues,
    encoder: EncoderOutputs | None,
) -> Outputs:
    """Read one token per row into a slot of the buffers; return the last hidden states."""
    hidden, _, _ = policy.read(tokens, positions, mask, past, encoder)
    return (hidden,)


class CacheStep(Step):
    """A step of rows whose keys and values lie in its buffers, and so do those of their sources.

    Args:
        past: keys and values like those of the rows.
        encoder: outputs of the encoder like those of the rows, if there is one.
        shape: the numbers of rows, slots and positions of sources of the buffers; the last is 0 if
            there is no encoder.
        key: see `Step`.
        dtype: the dtype of numbers to add to attention scores.
        by_numbers: whether the masks of slots are such numbers; see `CacheSteps`.
    """

    def __init__(
        self,
        past: KeyValues,
        encoder: EncoderOutputs | None,
        shape: tuple[int, int, int],
        key: Hashable,
        dtype: torch.dtype,
        *,
        by_numbers: bool,
    ) -> None:
        super().__init__(shape, key)
        (rows, slots, positions), first = shape, past.store.layers[0][0]
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=first.device)
        self.positions, self.slot = torch.zeros_like(self.tokens), self.tokens.new_zeros(1)
        self.mask = first.new_zeros(rows, 1, 1, slots, dtype=dtype)
        if not by_numbers:
            self.mask = first.new_zeros(rows, slots, dtype=torch.bool)
        self.past = StaticKeyValues(_make_store(past, rows, slots), slots, self.slot)
        self.encoder: EncoderOutputs | None = None
        if encoder is not None:
            # Only the shape of hidden states is read, as there are keys and values.
            hidden = encoder.hidden.new_zeros(1, positions, encoder.hidden.shape[2])
            cross = KeyValues(_make_store(encoder.cross, rows, positions), positions)
            mask = None
            if encoder.mask is not None:
                # Models look whether a mask of two dimensions hides anything, which waits for the
                # device; one of four dimensions is taken as it is.
                mask = first.new_zeros(rows, 1, 1, positions, dtype=dtype)
            self.encoder = EncoderOutputs(hidden.expand(rows, -1, -1), mask, cross)

    def list_states(self) -> list[Tensor]:
        """Return all keys and values."""
        stores = [self.past.store] + ([self.encoder.cross.store] if self.encoder else [])
        return [states for store in stores for layer in store.layers for states in layer]

    def load(self, past: KeyValues, encoder: EncoderOutputs | None) -> None:
        """Copy keys and values into the buffers."""
        _load_slots(self.past.store, past)
        if self.encoder is not None and encoder is not None:
            _load_slots(self.encoder.cross.store, encoder.cross, encoder.rows)
            if self.encoder.mask is not None:
                _load_mask(self.encoder.mask, encoder.mask, past.rows, encoder.cross.used)

    def load_inputs(
        self,
        tokens: Int[Tensor, "k 1"],
        positions: Int[Tensor, "k 1"],
        mask: SlotMask,
        slot: int,
    ) -> None:
        """Copy what changes with every step into the buffers."""
        count = len(tokens)
        self.tokens[:count], self.positions[:count] = tokens, positions
        self.slot.fill_(slot)
        _load_mask(self.mask, mask, count, slot + 1)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The arguments of `read_slot` after the policy; a graph goes on with exactly these."""
        return self.tokens, self.positions, self.mask, self.past, self.encoder


def _make_store(like: KeyValues, rows: int, slots: int) -> KeyValueStore:
    """Return empty buffers of keys and values."""
    layers = [
        (
            keys.new_zeros(rows, keys.shape[1], slots, keys.shape[3]),
            values.new_zeros(rows, values.shape[1], slots, values.shape[3]),
        )
        for keys, values in like.store.layers
    ]
    return KeyValueStore(layers, slots)


def _load_slots(
    buffers: KeyValueStore, past: KeyValues, rows: Int[Tensor, "n"] | None = None
) -> None:
    """Copy keys and values, or some rows of them, into buffers; the rest of these are zeros."""
    for layer, given in zip(buffers.layers, past.store.layers, strict=True):
        for buffer, states in zip(layer, given, strict=True):
            used = first_slots(states, past.used)
            used = used if rows is None else used[rows]
            # Earlier rows may have left NaN in free slots, which would pass through a mask.
            buffer.zero_()
            buffer[: len(used), :, : past.used] = used


def _load_mask(
    buffer: Bool[Tensor, "n l"] | Float[Tensor, "n 1 1 l"],
    mask: Bool[Tensor, "k u"] | Float[Tensor, "k 1 1 u"] | None,
    count: int,
    used: int,
) -> None:
    """Let `count` rows attend to what a mask says of the first slots, and to no other slot."""
    by_numbers = buffer.dtype != torch.bool
    buffer.fill_(torch.finfo(buffer.dtype).min if by_numbers else False)
    visible = buffer[:count, ..., :used]
    if mask is None:
        visible.fill_(0.0 if by_numbers else True)
    elif not by_numbers:
        visible.copy_(mask)
    elif mask.dtype == torch.bool:
        visible.masked_fill_(mask[:, None, None], 0.0)
    else:
        visible.copy_(mask)


class StaticStore(KeyValueStore):
    """The first rows of the buffers of a step, which belong to no other store meanwhile."""

    def __init__(self, step: CacheStep, past: KeyValues, encoder: EncoderOutputs | None) -> None:
        step.load(past, encoder)
        super().__init__(_first_rows(step.past, past.rows), past.used)
        self.step = step

    def place_sources(self, encoder: EncoderOutputs) -> EncoderOutputs:
        """Return the outputs of the encoder, with the keys and values that were loaded."""
        assert self.step.encoder is not None  # noqa: S101  # made like this one
        layers = _first_rows(self.step.encoder.cross, len(self.layers[0][0]))
        cross = KeyValues(SourceStore(layers, encoder.cross.used, self), encoder.cross.used)
        return replace(encoder, cross=cross, rows=None)


class SourceStore(KeyValueStore):
    """The keys and values of sources in the buffers of a store, which they keep from other rows."""

    def __init__(
        self, layers: list[tuple[Tensor, Tensor]], filled: int, owner: StaticStore
    ) -> None:
        super().__init__(layers, filled)
        self.owner = owner


def _first_rows(buffers: KeyValues, count: int) -> list[tuple[Tensor, Tensor]]:
    return [(keys[:count], values[:count]) for keys, values in buffers.store.layers]


class CacheSteps(StaticSteps[CacheStep]):
    """All steps of a Hugging Face policy; see `StaticSteps`.

    Args:
        options: options of `torch.compile`.
        by_numbers: whether masks are numbers to add to attention scores, as erasers need. If not,
            they are true on the slots to attend to, and models make the numbers of them, as those
            with a sliding window do.
    """

    def __init__(self, options: dict[str, Any], by_numbers: bool) -> None:
        super().__init__(read_slot, options)
        self.by_numbers = by_numbers

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to copy them; see `StaticSteps`."""
        return CacheSteps, (self.options, self.by_numbers)

    def read(
        self,
        policy: HuggingFacePolicy,
        tokens: Int[Tensor, "n 1"],
        positions: Int[Tensor, "n 1"],
        mask: SlotMask,
        past: KeyValues,
        encoder: EncoderOutputs | None,
    ) -> tuple[Float[Tensor, "n 1 h"], KeyValues, EncoderOutputs | None]:
        """Read one token per row into a new slot, as `HuggingFacePolicy.read` does."""
        store, used, key = past.store, past.used, self._make_key(policy, past, encoder)
        # If another state has continued these rows, its slots must not be overwritten.
        if (
            not isinstance(store, StaticStore)
            or store.filled != used
            or store.step.shape[1] == used
            or store.step.key != key
        ):
            store = self._load_step(policy, past, encoder, key)
            encoder = None if encoder is None else store.place_sources(encoder)
        step = store.step
        step.load_inputs(tokens, positions, mask, used)
        compute = partial(self.compute, policy, *step.inputs)
        (hidden,) = step.launch(compute, tokens.device, len(tokens))
        store.filled = used + 1
        return hidden, KeyValues(store, used + 1), encoder

    def make_step(
        self,
        policy: HuggingFacePolicy,
        past: KeyValues,
        encoder: EncoderOutputs | None,
        shape: tuple[int, int, int],
    ) -> CacheStep:
        """Return a new step with buffers for rows like these."""
        key = self._make_key(policy, past, encoder)
        return CacheStep(past, encoder, shape, key, policy.dtype, by_numbers=self.by_numbers)

    def _load_step(
        self,
        policy: HuggingFacePolicy,
        past: KeyValues,
        encoder: EncoderOutputs | None,
        key: Hashable,
    ) -> StaticStore:
        """Copy keys and values into buffers that no state uses."""
        shape = round_rows(past.rows), round_slots(past.used + 1), _count_positions(encoder)
        step = self.take(shape, key, lambda: self.make_step(policy, past, encoder, shape))
        store = StaticStore(step, past, encoder)
        weakref.finalize(store, self.release, step).atexit = False
        return store

    @staticmethod
    def _make_key(
        policy: HuggingFacePolicy, past: KeyValues, encoder: EncoderOutputs | None
    ) -> Hashable:
        states = [past.store.layers[0][0]]
        if encoder is not None:
            states += [encoder.cross.store.layers[0][0], encoder.hidden]
        masked = encoder is not None and encoder.mask is not None
        # Listing all weights would take longer than a step; they are moved together.
        weights = [policy.decoder.get_input_embeddings().weight]
        return masked, *make_key(weights, *states)


def _count_positions(encoder: EncoderOutputs | None) -> int:
    """Return the number of positions of sources in buffers, of which only a mask can hide some."""
    if encoder is None:
        return 0
    return encoder.cross.used if encoder.mask is None else round_positions(encoder.cross.used)


def round_slots(count: int) -> int:
    """Return a number of slots: a power of 2."""
    return max(MIN_SLOTS, 1 << (count - 1).bit_length())


@torch.no_grad()
def make_static_steps(policy: HuggingFacePolicy, options: dict[str, Any]) -> CacheSteps:
    """Return the static steps of a policy, after a trial that compares one with a plain step.

    Raises:
        ValueError: if static steps compute something else, or wait for the device.
        torch.OutOfMemoryError: if memory is not sufficient.
    """
    name = type(policy.inner).__name__
    try:
        with evaluation_mode(policy):
            by_numbers = masks_by_numbers(policy)
            steps = CacheSteps(options, by_numbers is True)
            waits, same = _try_step(policy, steps)
    except (ValueError, *FAILURES) as error:
        raise_out_of_memory(error, name)
        raise ValueError(
            f"steps of {name} cannot be captured: it does not run with keys and values in buffers "
            f"of constant shape ({error!r})"
        ) from error
    if waits:
        raise ValueError(
            f"steps of {name} cannot be captured: they read values of the device "
            f"({', '.join(sorted(waits))}), as those with dynamic rotary angles do"
        )
    if by_numbers is None or not same:
        raise ValueError(
            f"steps of {name} cannot be captured: it writes something else with keys and values in "
            "buffers of constant shape"
        )
    return steps


def _try_step(policy: HuggingFacePolicy, steps: CacheSteps) -> tuple[set[str], bool]:
    """Return which operations of a static step wait for the device, and whether it is right."""
    state = policy.start(policy.make_example_source((3, 2)))
    tokens = torch.full_like(state.position, policy.vocabulary.bos)
    _, state = policy.advance(state, tokens)  # which makes the keys and values of sources
    past, encoder, tokens = state.past, state.encoder, tokens[:, None]
    mask = state.mask
    if mask is not None:
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    positions = state.position[:, None]
    # With rows, slots and positions that are free.
    shape = past.rows + 1, past.used + 3, _count_positions(encoder)
    step = steps.make_step(policy, past, encoder, shape)
    step.load(past, encoder)
    step.load_inputs(tokens, positions, mask, past.used)
    found: list[Tensor] = []
    waits = find_host_reads(lambda: found.extend(read_slot(policy, *step.inputs)))
    expected, _, _ = policy.read(tokens, positions, mask, past, encoder)
    return waits, are_close(found[0][: past.rows], expected)
