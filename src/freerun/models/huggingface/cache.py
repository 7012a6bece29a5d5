"""The keys and values of rows, which can be selected, forked and extended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

MIN_GROWTH = 32
"""The minimum number of slots by which a buffer grows."""

SMALL_BYTES = 2**14
"""On a CPU, the maximum number of bytes of a head that are kept (almost) contiguous."""

GAP_BYTES = 2**9
"""The number of bytes that are then free behind a head."""


class GrowingLayer(DynamicLayer):
    """The keys and values of one layer during one pass.

    With gradients, new ones are concatenated to the old ones, as transformers does. Without, they
    are written into free slots behind the old ones, so that a step copies nothing.
    """

    def __init__(self, buffers: tuple[Tensor, Tensor] | None = None, used: int = 0) -> None:
        super().__init__()
        self.buffers, self.used = buffers, used
        self.is_initialized = buffers is not None
        if buffers is not None:
            self.keys, self.values = first_slots(buffers[0], used), first_slots(buffers[1], used)
            self.dtype, self.device = self.keys.dtype, self.keys.device

    def update(
        self,
        key_states: Float[Tensor, "n h q d"],
        value_states: Float[Tensor, "n h q d"],
        *args: object,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new slots, and return all of them."""
        if self.buffers is None:
            self.lazy_initialization(key_states, value_states)
            # Models transpose what they project; what is read often is faster in order.
            self.buffers = (key_states, value_states)
            if not torch.is_grad_enabled():
                self.buffers = (key_states.contiguous(), value_states.contiguous())
        elif torch.is_grad_enabled():
            # Autograd may need the old buffers for the backward pass of earlier steps.
            self.buffers = (
                torch.cat([self.keys, key_states], 2),
                torch.cat([self.values, value_states], 2),
            )
        else:
            keys, values = self.buffers
            self.buffers = (
                append_slots(keys, self.used, key_states),
                append_slots(values, self.used, value_states),
            )
        self.used += key_states.shape[2]
        keys, values = self.buffers
        self.keys, self.values = first_slots(keys, self.used), first_slots(values, self.used)
        return self.keys, self.values


def first_slots(buffer: Float[Tensor, "n h c d"], used: int) -> Float[Tensor, "n h m d"]:
    """Return the first `used` slots; the buffer itself if it has no others.

    This is called thousands of times a second, for every layer and step, so even a view would be
    too expensive.
    """
    return buffer if buffer.shape[2] == used else buffer.narrow(2, 0, used)


def append_slots(
    buffer: Float[Tensor, "n h c d"], used: int, states: Float[Tensor, "n h q d"]
) -> Float[Tensor, "n h m d"]:
    """Write `states` behind the first `used` slots; return the buffer, or a larger copy."""
    end = used + states.shape[2]
    if end > buffer.shape[2]:
        rows, heads, _, width = buffer.shape
        larger = buffer.new_empty(rows, heads, end + count_free_slots(buffer, end), width)
        larger[:, :, :used] = buffer[:, :, :used]
        buffer = larger
    buffer.narrow(2, used, states.shape[2]).copy_(states)
    return buffer


def count_free_slots(buffer: Float[Tensor, "n h c d"], end: int) -> int:
    """Return the number of free slots of a larger buffer, behind `end` slots that are used.

    Between the heads of rows, free slots interrupt the reading of a CPU: attention over small heads
    takes half as long if there are few, and copying them every few tokens costs less than that.
    """
    width = buffer.shape[3] * buffer.element_size()
    if buffer.device.type == "cpu" and end * width <= SMALL_BYTES:
        return max(1, GAP_BYTES // width)
    return max(MIN_GROWTH, end // 2)


class KeyValueStore:
    """The buffers of all layers, which several states may share.

    When a row is continued, the states before and after share one store, and differ in the number
    of slots they use. If a state is continued twice, the second continuation must not overwrite the
    slots of the first: `filled` says whether there are any.

    Attributes:
        layers: keys and values of each layer, [n, heads, slots, width].
        filled: the number of slots that some state has written; those behind are free.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]], filled: int) -> None:
        self.layers, self.filled = layers, filled


@dataclass(frozen=True)
class KeyValues:
    """The keys and values of rows: the first `used` slots of a store, for every row."""

    store: KeyValueStore
    used: int

    @classmethod
    def empty(cls) -> KeyValues:
        """Return the keys and values of rows that have read nothing."""
        return cls(KeyValueStore([], 0), 0)

    @property
    def rows(self) -> int:
        """The number of rows; 0 if they have read nothing."""
        return len(self.store.layers[0][0]) if self.store.layers else 0

    @property
    def slot_bytes(self) -> int:
        """The number of bytes that one slot of one row takes."""
        layers = (states for layer in self.store.layers for states in layer)
        return sum(s.shape[1] * s.shape[3] * s.element_size() for s in layers)

    def select(self, rows: Int[Tensor, "n"]) -> KeyValues:
        """Return the keys and values of `rows`: pick, repeat or reorder."""
        # Free slots are copied too, because growing the buffer later would cost as much again.
        layers = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self._own_layers()]
        return KeyValues(KeyValueStore(layers, self.used), self.used)

    def gather(self, rows: Int[Tensor, "n"], slots: Int[Tensor, "n l"]) -> KeyValues:
        """Return rows whose slot (i, j) is slot `slots[i, j]` of row `rows[i]`."""
        at = (rows[:, None], slice(None), slots)
        layers = [(k[at].transpose(1, 2), v[at].transpose(1, 2)) for k, v in self.store.layers]
        return KeyValues(KeyValueStore(layers, slots.shape[1]), slots.shape[1])

    def make_cache(self) -> Cache:
        """Return a cache for one pass, which does not change these keys and values."""
        if not self.store.layers:
            return Cache(layer_class_to_replicate=GrowingLayer)
        return Cache(layers=[GrowingLayer(layer, self.used) for layer in self._own_layers()])

    def extend(self, cache: Cache) -> KeyValues:
        """Return the keys and values after a pass with a cache that `make_cache` returned.

        Raises:
            ValueError: if the model wrote none.
        """
        layers = [layer.buffers for layer in cache.layers]
        if not layers:
            raise ValueError("it keeps no keys and values")
        used = cache.layers[0].used
        # If the pass wrote into our own buffers, both states share the store from now on.
        same = bool(self.store.layers) and layers[0][0].data_ptr() == self._address
        if same and not torch.is_grad_enabled():
            self.store.filled = max(self.store.filled, used)
            return KeyValues(self.store, used)
        return KeyValues(KeyValueStore(layers, used), used)

    def _own_layers(self) -> list[tuple[Tensor, Tensor]]:
        """Return the buffers; without free slots if another state has written into them.

        Buffers without free slots are copied by the next pass, so that nothing is overwritten.
        """
        if self.store.filled == self.used:
            return self.store.layers
        return [
            (first_slots(k, self.used), first_slots(v, self.used)) for k, v in self.store.layers
        ]

    @property
    def _address(self) -> int:
        return self.store.layers[0][0].data_ptr()
