"""Rows of a recurrent policy that write and withdraw tokens."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.models.recurrent.kernels import (
    CELL_KERNELS,
    Buffers,
    Product,
    make_attention_kernel,
)
from freerun.models.recurrent.projection import OutputKernel
from freerun.models.recurrent.state import RecurrentState
from freerun.models.recurrent.steps import MAX_ROWS
from freerun.models.writer import AdvancingWriter
from freerun.policy import Eraser, State, TokenChooser, Writer

if TYPE_CHECKING:
    from freerun.models.recurrent.policy import RecurrentPolicy


class RecurrentWriter(Writer):
    """Writes what stepping through `policy` would write, in less time and memory.

    Nothing is copied per row but hidden states, which change in place. What depends on a token or a
    sentence alone is computed once for each: embeddings times the weights of the first layer, keys
    and values of a sentence. Rows that begin from the same state share its product with the hidden
    weights. See `CellKernel`, `AttentionKernel` and `OutputKernel`.
    """

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.policy, weight = policy, policy.output.weight.detach()
        self.dtype, self.device_type = weight.dtype, weight.device.type
        self.buffers, precision = Buffers(weight), self.dtype
        if torch.is_autocast_enabled(self.device_type):
            precision = torch.get_autocast_dtype(self.device_type)
        kind, decoder = CELL_KERNELS[policy.config.cell], policy.decoder
        with self._without_autocast():
            self.layers = [
                kind(decoder.weights(i), precision, self.buffers)
                for i in range(len(decoder.layers))
            ]
            self.projection = OutputKernel(policy.output, precision, self.buffers)
            self.attention = None
            if policy.attention is not None:
                self.attention = make_attention_kernel(policy.attention, precision, self.buffers)
            width, weight = policy.config.embedding_size, self.layers[0].input_weight
            self.token_product = Product(weight[:width], precision, self.buffers)
            self.feed_product = Product(weight[width:], precision, self.buffers)
            self.layer_products = [
                Product(layer.input_weight, precision, self.buffers) for layer in self.layers[1:]
            ]
        self.token_table: Tensor | None = None

    def _without_autocast(self) -> torch.autocast:
        """Switch autocast off: kernels cast by themselves, once, not at every operation."""
        return torch.autocast(self.device_type, enabled=False)

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        state = cast("RecurrentState", state)
        with self._without_autocast():
            self.turn = 0
            both = (state.hidden, state.cell) if state.cell else (state.hidden,)
            layers = enumerate(zip(*both, strict=True))
            self.states = [self._select_states(states, rows, i) for i, states in layers]
            self.feed = None if state.feed is None else state.feed[rows].to(self.dtype)
            pairs = zip(state.hidden, self.layers, strict=True)
            self.origins: Tensor | None = rows
            self.products = [hidden.to(self.dtype) @ layer.hidden_weight for hidden, layer in pairs]
            if self.attention is not None and state.memory is not None:
                sentence = state.memory.sentence
                sentence = rows if sentence is None else sentence[rows]
                self.attention.begin(state.memory, sentence, state.position[rows])
            # A table pays if it has fewer rows than two steps of embeddings to multiply.
            if self.token_table is None and self.policy.vocabulary.size <= 2 * len(rows):
                everything = torch.arange(self.policy.vocabulary.size, device=rows.device)
                first = self.layers[0]
                weight = first.input_weight[: self.policy.config.embedding_size]
                self.token_table = torch.addmm(first.bias, self.policy.embed(everything), weight)

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChooser | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token per row and return the next."""
        with self._without_autocast():
            outputs = self._step(inputs)
            if choose is None:  # then scores need not be complete
                return self.projection.argmax(outputs)
            numbers = torch.arange(len(inputs), device=inputs.device)
            scored = self.projection.project_blocks(outputs)
            return torch.cat([choose(scores, numbers[rows]) for rows, scores in scored])

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.turn = 1 - self.turn
        self.states = [self._select_states(states, rows, i) for i, states in enumerate(self.states)]
        self.feed = None if self.feed is None else self.feed[rows]
        self.origins = None if self.origins is None else self.origins[rows]
        if self.attention is not None:
            self.attention.keep(rows)

    def _select_states(
        self, states: tuple[Tensor, ...], rows: Int[Tensor, "n"], layer: int
    ) -> tuple[Tensor, ...]:
        """Return the states of `rows` of a layer, in a buffer that may be overwritten."""
        found = []
        for i, state in enumerate(states):
            # Two buffers take turns, as the old states are read while the new ones are written.
            name = f"state {i} of layer {layer}, {self.turn}"
            held = self.buffers.get(name, len(rows), state.shape[1])
            found.append(torch.index_select(state.to(self.dtype), 0, rows, out=held))
        return tuple(found)

    def _step(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n h"]:
        """Read one token per row; return the outputs to project."""
        gates = self.buffers.get("gates", len(inputs), self.layers[0].hidden_weight.shape[1])
        if self.token_table is None:
            embedded = self.policy.embed(inputs).to(self.dtype)
            self.token_product.write(gates, embedded).add_(self.layers[0].bias)
        else:
            torch.index_select(self.token_table, 0, inputs, out=gates)
        if self.feed is not None:
            self.feed_product.add(gates, self.feed)
        for i, layer in enumerate(self.layers):
            if i:
                self.layer_products[i - 1].write(gates, self.states[i - 1][0]).add_(layer.bias)
            product = None
            if self.origins is not None:  # first step: rows that began from one state share it
                product = self.buffers.get("hidden product", *gates.shape)
                torch.index_select(self.products[i], 0, self.origins, out=product)
            layer.step(gates, self.states[i], product)
        self.origins = None
        outputs = self.states[-1][0]
        if self.attention is not None:
            outputs = self.attention.attend(outputs)
        if self.feed is not None:
            self.feed = outputs
        return outputs


class StaticWriter(Writer):
    """Writes by static steps, or as `RecurrentWriter` does if there are too many rows for them."""

    def __init__(self, policy: RecurrentPolicy) -> None:
        self.policy = policy

    def begin(self, state: State, rows: Int[Tensor, "n"]) -> None:
        """Start over with n rows, of which row i continues row `rows[i]` of `state`."""
        self.inner: Writer = self._kernels if len(rows) > MAX_ROWS else AdvancingWriter(self.policy)
        self.inner.begin(state, rows)

    def write(
        self, inputs: Int[Tensor, "n"], choose: TokenChooser | None = None
    ) -> Int[Tensor, "n"]:
        """Read one token per row and return the next."""
        return self.inner.write(inputs, choose)

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.inner.keep(rows)

    @cached_property
    def _kernels(self) -> RecurrentWriter:
        return RecurrentWriter(self.policy)


STACK_GROWTH = 32
"""The minimum number of levels by which the stack grows."""


class StackEraser(Eraser):
    """Writes and withdraws tokens with a stack of every token and the state before it.

    After a withdrawal, the token that is then on top is read again from the state before it: this
    gives its scores again without storing them, and rows that write and rows that withdraw share
    one step. Level 0 of a row is bos, level d its d-th token.
    """

    def __init__(self, policy: RecurrentPolicy, state: RecurrentState) -> None:
        self.policy, self.state = policy, state
        self.level = torch.full_like(state.position, -1)
        self.tokens = state.position.new_zeros(len(self.level), 0)
        self.before = [part.new_zeros(len(part), 0, part.shape[1]) for part in state.parts]
        self.calls = 0

    def read(self, tokens: Int[Tensor, "n"], withdraw: Bool[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read a token or withdraw the last one in each row; return the scores of the next."""
        # No row is deeper than the number of calls, which is known without asking the device.
        if self.calls == self.tokens.shape[1]:
            self.tokens, *self.before = (_grow(held) for held in (self.tokens, *self.before))
        self.calls += 1
        withdraw = withdraw & (self.level >= 0)
        self.level = torch.where(withdraw, (self.level - 1).clamp(min=0), self.level + 1)
        here, back = self.level[:, None], withdraw[:, None]
        # Rows that withdraw read the token that is on top now, the others the one given.
        read = self.tokens.gather(1, here).where(back, tokens[:, None])
        self.tokens.scatter_(1, here, read)
        parts = []
        for held, part in zip(self.before, self.state.parts, strict=True):
            at = here[:, :, None].expand(-1, 1, part.shape[1])
            part = part[:, None].to(held.dtype)  # autocast may have lowered it
            before = held.gather(1, at).where(back[:, :, None], part)
            held.scatter_(1, at, before)
            parts.append(before[:, 0])
        state = self.state.replace_parts(parts, self.level)
        scores, self.state = self.policy.step(state, read[:, 0])
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        self.state, self.level = self.state.select(rows), self.level[rows]
        self.tokens, *self.before = (held[rows] for held in (self.tokens, *self.before))


def _grow(held: Tensor) -> Tensor:
    """Return a copy with free levels behind the others."""
    rows, levels, *shape = held.shape
    wider = held.new_zeros(rows, levels + max(STACK_GROWTH, levels), *shape)
    wider[:, :levels] = held
    return wider
