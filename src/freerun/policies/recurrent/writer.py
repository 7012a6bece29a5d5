"""Rows of a recurrent policy that only write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.policies.recurrent.buffers import Buffers
from freerun.policies.recurrent.gates import GATES
from freerun.policies.recurrent.look import look_of
from freerun.policies.recurrent.product import Product
from freerun.policies.recurrent.projection import Projection
from freerun.policies.recurrent.state import RecurrentState
from freerun.policy import Choose

if TYPE_CHECKING:
    from freerun.policies.recurrent.model import RecurrentPolicy


class RecurrentWriter:
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

    def begin(self, state: RecurrentState, rows: Int[Tensor, "n"]) -> None:
        """Row i goes on from row `rows[i]` of `state`."""
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

    def write(self, inputs: Int[Tensor, "n"], choose: Choose | None = None) -> Int[Tensor, "n"]:
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
