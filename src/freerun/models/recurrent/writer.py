"""Rows of a recurrent policy that write and withdraw, over a stack of their states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.models.recurrent.attention import look_of
from freerun.models.recurrent.decoder import GATES
from freerun.models.recurrent.projection import Buffers, Product, Projection
from freerun.models.recurrent.state import RecurrentState
from freerun.policy import Eraser, State, TokenChoice, Writer

if TYPE_CHECKING:
    from freerun.models.recurrent.policy import RecurrentPolicy


class RecurrentWriter(Writer):
    """Writes what stepping through `policy` would write, in less time and memory.

    Nothing is copied per row but hidden states, which change in place. What depends on a token or a
    sentence alone is computed once for each: the embeddings multiplied by the weights that read
    them, the keys and values of a sentence; and rows that begin from the same state share its
    product with the recurrent weights. See `Gates`, `Look` and `Projection` for the parts.
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.policy, weight = policy, policy.output.weight.detach()
        self.dtype, self.device_type = weight.dtype, weight.device.type
        self.buffers, precision = Buffers(weight), self.dtype
        if torch.is_autocast_enabled(self.device_type):
            precision = torch.get_autocast_dtype(self.device_type)
        kind, decoder = GATES[policy.config.cell], policy.decoder
        with self._plainly():
            self.layers = [
                kind(decoder.weights(i), precision, self.buffers)
                for i in range(len(decoder.layers))
            ]
            self.projection = Projection(policy.output, precision, self.buffers)
            self.look = None
            if policy.attention is not None:
                self.look = look_of(policy.attention, precision, self.buffers)
            width, read = policy.config.embedding_size, self.layers[0].read
            self.of_token = Product(read[:width], precision, self.buffers)
            self.of_feed = Product(read[width:], precision, self.buffers)
            self.of_below = [
                Product(layer.read, precision, self.buffers) for layer in self.layers[1:]
            ]
        self.table: Tensor | None = None

    def _plainly(self) -> torch.autocast:
        """Precision is chosen here, once, and not by autocast at every operation."""
        return torch.autocast(self.device_type, enabled=False)

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        state = cast("RecurrentState", state)
        with self._plainly():
            self.turn = 0
            both = (state.hidden, state.cell) if state.cell else (state.hidden,)
            layers = enumerate(zip(*both, strict=True))
            self.states = [self._rows(states, rows, i) for i, states in layers]
            self.feed = None if state.feed is None else state.feed[rows].to(self.dtype)
            pairs = zip(state.hidden, self.layers, strict=True)
            self.origin: Tensor | None = rows
            self.carried = [hidden.to(self.dtype) @ layer.carry for hidden, layer in pairs]
            if self.look is not None and state.memory is not None:
                sentence = state.memory.sentence
                sentence = rows if sentence is None else sentence[rows]
                self.look.begin(state.memory, sentence, state.position[rows])
            if self.table is None and self.policy.vocabulary.size <= 2 * len(rows):
                everything = torch.arange(self.policy.vocabulary.size, device=rows.device)
                first = self.layers[0]
                weight = first.read[: self.policy.config.embedding_size]
                self.table = torch.addmm(first.bias, self.policy.embed(everything), weight)

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChoice | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token a row, and give the next."""
        with self._plainly():
            outputs = self._step(inputs)
            if choose is None:
                return self.projection.best(outputs)
            numbers = torch.arange(len(inputs), device=inputs.device)
            scored = self.projection.scores(outputs)
            return torch.cat([choose(scores, numbers[rows]) for rows, scores in scored])

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.turn = 1 - self.turn
        self.states = [self._rows(states, rows, i) for i, states in enumerate(self.states)]
        self.feed = None if self.feed is None else self.feed[rows]
        self.origin = None if self.origin is None else self.origin[rows]
        if self.look is not None:
            self.look.keep(rows)

    def _rows(
        self, states: tuple[Tensor, ...], rows: Int[Tensor, "n"], layer: int
    ) -> tuple[Tensor, ...]:
        """The states of `rows` of a layer, in memory where they may be overwritten."""
        found = []
        for i, state in enumerate(states):
            # Two pieces take turns: what is read, and what is written.
            name = f"state {i} of layer {layer}, {self.turn}"
            held = self.buffers.get(name, len(rows), state.shape[1])
            found.append(torch.index_select(state.to(self.dtype), 0, rows, out=held))
        return tuple(found)

    def _step(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n h"]:
        """Read one token a row: the outputs that are projected."""
        gates = self.buffers.get("gates", len(inputs), self.layers[0].carry.shape[1])
        if self.table is None:
            embedded = self.policy.embed(inputs).to(self.dtype)
            self.of_token.put(gates, embedded).add_(self.layers[0].bias)
        else:
            torch.index_select(self.table, 0, inputs, out=gates)
        if self.feed is not None:
            self.of_feed.add(gates, self.feed)
        for i, layer in enumerate(self.layers):
            if i:
                self.of_below[i - 1].put(gates, self.states[i - 1][0]).add_(layer.bias)
            carried = None
            if self.origin is not None:  # rows that begin from one state share its product
                carried = self.buffers.get("carried", *gates.shape)
                torch.index_select(self.carried[i], 0, self.origin, out=carried)
            layer.step(gates, self.states[i], carried)
        self.origin = None
        outputs = self.states[-1][0]
        if self.look is not None:
            outputs = self.look(outputs)
        if self.feed is not None:
            self.feed = outputs
        return outputs


ROOM = 32
"""The least number of levels by which the stack grows."""


class StackEraser(Eraser):
    """Writes and withdraws over a stack that holds every token and the state before it.

    The token that is on top after a withdrawal is read once more from the state before it, so that
    its scores need not be stored. Level 0 of a row is bos, level d its d-th token.
    """

    def __init__(self, policy: RecurrentPolicy, state: RecurrentState) -> None:
        self.policy, self.state = policy, state
        self.level = torch.full_like(state.position, -1)
        self.tokens = state.position.new_zeros(len(self.level), 0)
        self.before = [part.new_zeros(len(part), 0, part.shape[1]) for part in _parts(state)]
        self.calls = 0

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads its token, or withdraws its last one; the scores of what comes next."""
        if self.calls == self.tokens.shape[1]:
            self.tokens, *self.before = (_wider(held) for held in (self.tokens, *self.before))
        self.calls += 1
        withdraw = withdraw & (self.level >= 0)
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)
        here, back = self.level[:, None], withdraw[:, None]
        read = self.tokens.gather(1, here).where(back, tokens[:, None])
        self.tokens.scatter_(1, here, read)
        parts = []
        for held, part in zip(self.before, _parts(self.state), strict=True):
            at = here[:, :, None].expand(-1, 1, part.shape[1])
            part = part[:, None].to(held.dtype)  # autocast may have made them shorter
            before = held.gather(1, at).where(back[:, :, None], part)
            held.scatter_(1, at, before)
            parts.append(before[:, 0])
        scores, self.state = self.policy.step(_made(self.state, parts, self.level), read[:, 0])
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.state, self.level = self.state.select(rows), self.level[rows]
        self.tokens, *self.before = (held[rows] for held in (self.tokens, *self.before))


def _parts(state: RecurrentState) -> list[Tensor]:
    """What changes from token to token, [n, h] each."""
    return [*state.hidden, *state.cell, *([] if state.feed is None else [state.feed])]


def _made(state: RecurrentState, parts: list[Tensor], position: Int[Tensor, "n"]) -> RecurrentState:
    """`state` with other `parts`, at these positions."""
    layers, cells = len(state.hidden), len(state.cell)
    return replace(
        state,
        hidden=tuple(parts[:layers]),
        cell=tuple(parts[layers : layers + cells]),
        feed=None if state.feed is None else parts[-1],
        position=position,
    )


def _wider(held: Tensor) -> Tensor:
    """The same with room for more levels."""
    rows, levels, *shape = held.shape
    wider = held.new_zeros(rows, levels + max(ROOM, levels), *shape)
    wider[:, :levels] = held
    return wider
