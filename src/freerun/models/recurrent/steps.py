"""Static steps of recurrent policies: states, and what attention looks at, in buffers of a step."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.models.recurrent.attention import AttentionMemory
from freerun.models.recurrent.state import RecurrentState
from freerun.models.steps import (
    Outputs,
    StaticSteps,
    Step,
    make_key,
    round_positions,
    round_rows,
)

if TYPE_CHECKING:
    from freerun.models.recurrent.policy import RecurrentPolicy

MAX_ROWS = 1024
"""The maximum number of rows of a static step. With more, a step takes longer to run than to
launch, and what attention looks at would be copied for each of them.
"""


def read_tokens(
    policy: RecurrentPolicy, tokens: Int[Tensor, "n"], state: RecurrentState
) -> Outputs:
    """Read one token per row; return the attentional outputs, and the parts of the new state."""
    outputs, after = policy.advance_plainly(state, tokens)
    return outputs, *after.parts


class RecurrentStep(Step):
    """A step of rows whose states, and what attention looks at, lie in its buffers.

    Args:
        like: a state like those of the rows.
        shape: the numbers of rows and of positions of sources of the buffers; the latter is 0 if
            there is no attention.
        key: see `Step`.
    """

    def __init__(self, like: RecurrentState, shape: tuple[int, int], key: Hashable) -> None:
        super().__init__(shape, key)
        rows, positions = shape
        self.tokens, memory = like.position.new_zeros(rows), like.memory
        if memory is not None:
            keys, values, mask = (
                held.new_zeros(rows, positions, *held.shape[2:]) for held in _list_held(memory)
            )
            memory = AttentionMemory(keys, values, mask)
        parts = [part.new_zeros(rows, part.shape[1]) for part in like.parts]
        like = replace(like, memory=memory)
        self.state = like.replace_parts(parts, torch.zeros_like(self.tokens))
        # What the buffers have a copy of: the next steps of the same rows look at the same.
        self.loaded: weakref.ref[AttentionMemory] | None = None

    def list_states(self) -> list[Tensor]:
        """Return the parts of states, and what attention looks at."""
        memory = self.state.memory
        return [*self.state.parts, *([] if memory is None else _list_held(memory))]

    def load(self, state: RecurrentState, tokens: Int[Tensor, "k"]) -> None:
        """Copy the states of k rows and what they read into the buffers."""
        count, memory = len(tokens), state.memory
        self.tokens[:count], self.state.position[:count] = tokens, state.position
        if memory is not None:
            # Aligned attention of cells past the last position of sources looks at that position,
            # not at what the buffer has behind it.
            self.state.position[:count].clamp_(max=memory.mask.shape[1] - 1)
            if self.loaded is None or self.loaded() is not memory:
                self._load_memory(memory, count)
        for buffer, part in zip(self.state.parts, state.parts, strict=True):
            buffer[:count] = part

    def _load_memory(self, memory: AttentionMemory, count: int) -> None:
        assert self.state.memory is not None  # noqa: S101  # made like this one
        for buffer, held in zip(_list_held(self.state.memory), _list_held(memory), strict=True):
            # Earlier rows may have left NaN behind, which would pass through a mask.
            buffer.zero_()
            each = held if memory.sentence is None else held[memory.sentence]
            buffer[:count, : held.shape[1]] = each
        self.loaded = weakref.ref(memory)


def list_weights(policy: RecurrentPolicy) -> list[Tensor]:
    """Return weights of a step, of which one at least has moved if any has."""
    # On a GPU, the weights of a recurrent layer lie in one block. Listing all would take about as
    # long as launching a step.
    layers = policy.decoder.layers
    return [policy.embedding.weight, *(next(layer.parameters()) for layer in layers)]


def _list_held(memory: AttentionMemory) -> list[Tensor]:
    return [memory.keys, memory.values, memory.mask]


class RecurrentSteps(StaticSteps[RecurrentStep]):
    """All steps of a recurrent policy; see `StaticSteps`."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(read_tokens, options)

    def advance(
        self, policy: RecurrentPolicy, state: RecurrentState, tokens: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n h"], RecurrentState]:
        """Read one token per row, as `RecurrentPolicy.advance` does."""
        memory = state.memory
        sources = 0 if memory is None else round_positions(memory.mask.shape[1])
        held = [] if memory is None else _list_held(memory)
        shape = (round_rows(len(tokens)), sources)
        key = make_key(list_weights(policy), *state.parts, *held)
        step = self.take(shape, key, lambda: RecurrentStep(state, shape, key))
        step.load(state, tokens)
        compute = partial(self.compute, policy, step.tokens, step.state)
        outputs, *parts = step.launch(compute, tokens.device, len(tokens))
        self.release(step)
        return outputs, state.replace_parts(parts, state.position + 1)
