"""Checks with tokens that lie many slots apart: bounds of attention, and the masks of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache

from freerun.models.huggingface.cache import GrowingLayer, KeyValues
from freerun.models.huggingface.probe_examples import (
    CELLS,
    LONGEST,
    are_close,
    make_example,
    raise_out_of_memory,
)
from freerun.models.huggingface.stack import FAILURES

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy
    from freerun.models.huggingface.state import CacheState

LONGEST_WINDOW = 2**15
"""The largest window of attention that can be detected."""


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


def reads_distant_slots(policy: HuggingFacePolicy) -> bool:
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

    if is_right(numbers):
        return True
    return False if is_right(mask) else None


def _read_example(policy: HuggingFacePolicy) -> tuple[CacheState, Int[Tensor, "1"]]:
    """Return the state of a row after some tokens, and the next token."""
    source, inputs = make_example(policy)
    longest = torch.tensor([LONGEST], device=inputs.device)
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
