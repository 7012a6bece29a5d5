"""The recurrent layers of the decoder: whole rows at once, or one step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from freerun.policies.recurrent.config import RecurrentConfig
from freerun.policies.recurrent.encoder import KINDS

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
