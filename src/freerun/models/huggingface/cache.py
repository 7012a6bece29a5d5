"""Keys and values of rows: read once, then selected, forked and added to, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 32
"""The least number of slots by which a buffer grows."""


class Layer(DynamicLayer):
    """The keys and values of one layer during one pass.

    With gradients, new ones are concatenated, as transformers does. Without, they are written into
    room behind the old ones, so that a step copies nothing.
    """

    def __init__(self, buffers: tuple[Tensor, Tensor] | None = None, used: int = 0) -> None:
        super().__init__()
        self.buffers, self.used = buffers, used
        self.is_initialized = buffers is not None
        if buffers is not None:
            self.keys, self.values = front(buffers[0], used), front(buffers[1], used)
            self.dtype, self.device = self.keys.dtype, self.keys.device

    def update(
        self,
        key_states: Float[Tensor, "n h q d"],
        value_states: Float[Tensor, "n h q d"],
        *args: object,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """Add the keys and values of new slots; gives all there are."""
        if self.buffers is None:
            self.lazy_initialization(key_states, value_states)
            self.buffers = (key_states, value_states)
        elif torch.is_grad_enabled():
            self.buffers = (
                torch.cat([self.keys, key_states], 2),
                torch.cat([self.values, value_states], 2),
            )
        else:
            keys, values = self.buffers
            self.buffers = (
                written(keys, self.used, key_states),
                written(values, self.used, value_states),
            )
        self.used += key_states.shape[2]
        keys, values = self.buffers
        self.keys, self.values = front(keys, self.used), front(values, self.used)
        return self.keys, self.values


def front(buffer: Float[Tensor, "n h c d"], used: int) -> Float[Tensor, "n h m d"]:
    """The first `used` slots; at thousands of calls a second, views are not made for nothing."""
    return buffer if buffer.shape[2] == used else buffer.narrow(2, 0, used)


def written(
    buffer: Float[Tensor, "n h c d"], used: int, states: Float[Tensor, "n h q d"]
) -> Float[Tensor, "n h m d"]:
    """The buffer with `states` behind its first `used` slots, or a larger one."""
    end = used + states.shape[2]
    if end > buffer.shape[2]:
        rows, heads, _, width = buffer.shape
        larger = buffer.new_empty(rows, heads, end + max(ROOM, end // 2), width)
        larger[:, :, :used] = buffer[:, :, :used]
        buffer = larger
    buffer.narrow(2, used, states.shape[2]).copy_(states)
    return buffer


class Store:
    """The buffers of all layers, which several states may share.

    Attributes:
        layers: keys and values of each layer, [n, heads, slots, width].
        filled: the slots that some state has written; what lies behind is free.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]], filled: int) -> None:
        self.layers, self.filled = layers, filled


@dataclass(frozen=True)
class Past:
    """What rows have read: the first `used` slots of a store, the same number for every row."""

    store: Store
    used: int

    @classmethod
    def empty(cls) -> Past:
        """Nothing was read."""
        return cls(Store([], 0), 0)

    @property
    def slot_bytes(self) -> int:
        """The bytes that one slot of one row takes."""
        layers = (states for layer in self.store.layers for states in layer)
        return sum(s.shape[1] * s.shape[3] * s.element_size() for s in layers)

    def select(self, rows: Int[Tensor, "n"]) -> Past:
        """The same of other rows: pick, repeat, reorder."""
        # With the room behind, as it would cost as much again to make room later.
        layers = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self._own()]
        return Past(Store(layers, self.used), self.used)

    def gather(self, rows: Int[Tensor, "n"], slots: Int[Tensor, "n l"]) -> Past:
        """Rows made of any slots: slot j of row i is slot `slots[i, j]` of row `rows[i]`."""
        at = (rows[:, None], slice(None), slots)
        layers = [(k[at].transpose(1, 2), v[at].transpose(1, 2)) for k, v in self.store.layers]
        return Past(Store(layers, slots.shape[1]), slots.shape[1])

    def cache(self) -> Cache:
        """The cache for one pass, which leaves this as it is."""
        if not self.store.layers:
            return Cache(layer_class_to_replicate=Layer)
        return Cache(layers=[Layer(layer, self.used) for layer in self._own()])

    def after(self, cache: Cache) -> Past:
        """What rows have read once a pass with `cache` is done."""
        layers = [layer.buffers for layer in cache.layers]
        used = cache.layers[0].used
        same = bool(self.store.layers) and layers[0][0].data_ptr() == self._start
        if same and not torch.is_grad_enabled():
            self.store.filled = max(self.store.filled, used)
            return Past(self.store, used)
        return Past(Store(layers, used), used)

    def _own(self) -> list[tuple[Tensor, Tensor]]:
        """The buffers, without slots that another state has written into behind ours."""
        if self.store.filled == self.used:
            return self.store.layers
        return [(front(k, self.used), front(v, self.used)) for k, v in self.store.layers]

    @property
    def _start(self) -> int:
        return self.store.layers[0][0].data_ptr()
