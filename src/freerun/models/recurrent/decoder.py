"""Recurrent layers in place: the same gates, with as little besides their products as can be."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.encoder import KINDS
from freerun.models.recurrent.projection import Buffers, Product

Layered = tuple[Tensor, ...]
"""One tensor a layer."""


class Decoder(nn.Module):
    """A stack of one-layer modules, as the states of every layer are needed at every cell."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        first = config.embedding_size + (config.hidden_size if config.input_feeding else 0)
        sizes = [first] + [config.hidden_size] * (config.layers - 1)
        kind = KINDS[config.cell]
        self.layers = nn.ModuleList(
            [kind(size, config.hidden_size, batch_first=True) for size in sizes]
        )
        self.has_cell = config.cell == "lstm"
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, inputs: Float[Tensor, "b t e"], hidden: Layered, cell: Layered
    ) -> tuple[Float[Tensor, "b t h"], Layered, Layered]:
        """Read whole rows: the top outputs, and what every layer read and its hidden states."""
        reads, states = [], []
        for i, layer in enumerate(self.layers):
            first = hidden[i][None]
            outputs, _ = layer(inputs, (first, cell[i][None]) if self.has_cell else first)
            reads.append(inputs)
            states.append(outputs)
            inputs = self.dropout(outputs)
        return inputs, tuple(reads), tuple(states)

    def step(
        self, inputs: Float[Tensor, "n e"], hidden: Layered, cell: Layered
    ) -> tuple[Float[Tensor, "n h"], Layered, Layered]:
        """Read one more input: the top outputs, and every layer's states."""
        hiddens, cells = [], []
        for i in range(len(self.layers)):
            inputs = inputs.to(hidden[i].dtype)
            if self.has_cell:
                new, new_cell = torch.lstm_cell(inputs, (hidden[i], cell[i]), *self.weights(i))
                cells.append(new_cell)
            else:
                new = torch.gru_cell(inputs, hidden[i], *self.weights(i))
            hiddens.append(new)
            inputs = self.dropout(new)
        return inputs, tuple(hiddens), tuple(cells)

    def cells(self, reads: Layered, hidden: Layered, cell: Layered, states: Layered) -> Layered:
        """The cell states of an LSTM at every cell of a row, which `forward` does not return.

        Given all hidden states, the gates of all cells are one product; only the sum
        c_t = f_t·c_{t-1} + i_t·g_t remains to be run along the row.
        """
        found = []
        for i in range(len(self.layers)):
            w_read, w_hidden, b_read, b_hidden = self.weights(i)
            before = torch.cat([hidden[i][:, None], states[i][:, :-1]], 1)
            gates = F.linear(reads[i], w_read, b_read) + F.linear(before, w_hidden, b_hidden)
            enter, forget, new, _ = gates.chunk(4, -1)
            forget, added = forget.sigmoid(), enter.sigmoid() * new.tanh()
            value, values = cell[i], []
            for t in range(forget.shape[1]):
                value = forget[:, t] * value + added[:, t]
                values.append(value)
            found.append(torch.stack(values, 1))
        return tuple(found)

    def weights(self, i: int) -> list[Tensor]:
        """The weights and biases of a layer, as the cell functions of torch take them."""
        weights: list[Tensor] = self.layers[i].all_weights[0]  # type: ignore[index, assignment]
        return weights


def tanh_of_half_(doubled: Tensor) -> Tensor:
    """tanh(x/2) in place, as 2σ(x) - 1: on CPUs a fraction of the time of tanh.

    Weights are doubled beforehand where this is used, which is exact.
    """
    return doubled.sigmoid_().mul_(2).sub_(1)


class Gates:
    """A layer of GRU or LSTM, given what it reads already multiplied by its weights.

    Attributes:
        read: the weights of what is read, transposed; those under a tanh are doubled.
        bias: the biases that may be added to it.
        carry: the weights of the hidden state, likewise.

    Args:
        weights: those of the layer, as the cell functions of torch take them.
        precision: what products are computed in.
        buffers: memory to work in.
    """

    bias: Float[Tensor, "g"]

    def __init__(self, weights: list[Tensor], precision: torch.dtype, buffers: Buffers) -> None:
        read, carry, read_bias, carry_bias = weights
        self.size, self.buffers = carry.shape[1], buffers
        twice = torch.ones_like(read_bias)
        twice[2 * self.size : 3 * self.size] = 2  # the new value, in both GRU and LSTM
        self.read, self.carry = (read * twice[:, None]).T, (carry * twice[:, None]).T
        self._prepare(read_bias * twice, carry_bias * twice, precision)

    def _prepare(
        self, read: Float[Tensor, "g"], carry: Float[Tensor, "g"], precision: torch.dtype
    ) -> None:
        """Take the biases, and make the products ready."""
        raise NotImplementedError

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """One step, which overwrites all that it is given.

        Args:
            gates: what is read by `read`, and `bias`.
            state: the hidden state [n, h], and the cell state of an LSTM.
            carried: the hidden state by `carry`, where it is known already.
        """
        raise NotImplementedError


class GruGates(Gates):
    """Cho et al. 2014, arXiv 1406.1078, with the reset gate behind the product, as in torch."""

    def _prepare(
        self, read: Float[Tensor, "g"], carry: Float[Tensor, "g"], precision: torch.dtype
    ) -> None:
        both = 2 * self.size
        self.bias, self.inside = read.clone(), carry[both:]
        self.bias[:both] += carry[:both]
        self.of_both = Product(self.carry[:, :both], precision, self.buffers)
        self.of_new = Product(self.carry[:, both:], precision, self.buffers)

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """(1 - z)·n + z·h becomes h; n = tanh(W·x + r·(U·h + b)), r and z sigmoids of the like."""
        (hidden,), size = state, self.size
        both, new = gates[:, : 2 * size], gates[:, 2 * size :]
        if carried is None:
            self.of_both.add(both, hidden)
            reset = self.of_new.put(self.buffers.get("reset", len(hidden), size), hidden)
        else:
            both.add_(carried[:, : 2 * size])
            reset = carried[:, 2 * size :]
        both.sigmoid_()
        tanh_of_half_(new.addcmul_(both[:, :size], reset.add_(self.inside)))
        torch.lerp(new, hidden, both[:, size:], out=hidden)


class LstmGates(Gates):
    """Hochreiter and Schmidhuber 1997, with forget gates and without peepholes, as in torch."""

    def _prepare(
        self, read: Float[Tensor, "g"], carry: Float[Tensor, "g"], precision: torch.dtype
    ) -> None:
        self.bias = read + carry
        self.of_all = Product(self.carry, precision, self.buffers)

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        carried: Float[Tensor, "n g"] | None,
    ) -> None:
        """f·c + i·g becomes c, then o·tanh(c) h; i, f, o sigmoids, g a tanh of W·x + U·h + b."""
        hidden, cell = state
        self.of_all.add(gates, hidden) if carried is None else gates.add_(carried)
        enter, forget, new, leave = gates.sigmoid_().chunk(4, 1)
        new.mul_(2).sub_(1)
        cell.mul_(forget).addcmul_(enter, new)
        torch.mul(cell, 2, out=hidden)
        tanh_of_half_(hidden).mul_(leave)


GATES: dict[str, type[Gates]] = {"gru": GruGates, "lstm": LstmGates}
