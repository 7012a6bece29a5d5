"""The recurrent layers: LSTM, encoder and decoder."""

from __future__ import annotations

import logging
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from freerun.batch import Source
from freerun.models.recurrent.config import RecurrentConfig

_LOGGER = logging.getLogger(__name__)

LstmInputs = Tensor | PackedSequence


class LSTM(nn.LSTM):
    """`torch.nn.LSTM`, which leaves autocast on CPUs that have no LSTM in its dtype.

    Autocast casts what an LSTM reads to its dtype without asking whether oneDNN has a kernel for
    it: on x86 without AVX-512, `torch.nn.LSTM` raises RuntimeError under bfloat16. There, this
    layer computes in the dtype of its weights, as GRU layers do on every CPU.
    """

    def forward(  # type: ignore[override]
        self, inputs: LstmInputs, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[LstmInputs, tuple[Tensor, Tensor]]:
        """Return outputs and last states, see `torch.nn.LSTM`."""
        weight = self.weight_ih_l0
        if weight.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(inputs, hx)
        if has_lstm_kernel(torch.get_autocast_dtype("cpu")):
            return super().forward(inputs, hx)
        with torch.autocast("cpu", enabled=False):
            states = None if hx is None else (hx[0].to(weight.dtype), hx[1].to(weight.dtype))
            return super().forward(inputs.to(weight.dtype), states)


@cache
def has_lstm_kernel(dtype: torch.dtype) -> bool:
    """Return whether this CPU trains an LSTM under autocast to `dtype`; log a warning if not.

    This is found by trying, once per process: which instructions a kernel needs differs between
    versions of oneDNN.
    """
    # Zeros, as random weights would change the initial weights that are drawn afterwards.
    size = 2
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", dtype):
        shapes = ((4 * size, size), (4 * size, size), (4 * size,), (4 * size,))
        weights = [torch.zeros(shape, requires_grad=True) for shape in shapes]
        inputs, state = torch.zeros(1, 1, size), torch.zeros(1, 1, size)
        try:
            states = (state, state)
            found = torch.lstm(inputs, states, weights, True, 1, 0.0, True, False, True)
            torch.autograd.grad(found[0].sum(), weights)
        except RuntimeError:
            _LOGGER.warning(
                "This CPU has no LSTM kernel for %s: LSTM layers compute in single precision.",
                str(dtype).removeprefix("torch."),
            )
            return False
    return True


LAYERS = {"gru": nn.GRU, "lstm": LSTM}

Layered = tuple[Tensor, ...]
"""One tensor per layer."""


class RecurrentEncoder(nn.Module):
    """Recurrent layers that read a source, in one direction or both.

    Rows are packed, so that padding is never read, and the last state is that of the last position.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.factors = tuple(config.factors)
        self.width = config.features or len(self.factors)
        if config.features is None:
            self.embedding = nn.Embedding(sum(self.factors), config.embedding_size)
        self.layers = LAYERS[config.cell](
            config.features or config.embedding_size,
            config.hidden_size,
            config.layers,
            batch_first=True,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.bridge = (
            nn.Linear(2 * config.hidden_size, config.hidden_size) if config.bidirectional else None
        )
        self.dropout = nn.Dropout(config.dropout)

    def embed_source(self, source: Source) -> Float[Tensor, "b s e"]:
        """Return features as they are, or the summed embeddings of each position's tokens.

        Raises:
            ValueError: if the source is not what this encoder reads.
        """
        values = source.values
        width = values.shape[2] if values.dim() == 3 else 1
        if values.is_floating_point() != (not self.factors) or width != self.width:
            reads = "tokens" if self.factors else "features"
            given = "features" if values.is_floating_point() else "tokens"
            raise ValueError(
                f"the source has {given} ({width} at a position), "
                f"this encoder reads {reads} ({self.width})"
            )
        if values.is_floating_point():
            return values.to(self.layers.weight_ih_l0.dtype)
        if values.dim() == 2:
            return self.dropout(self.embedding(values))
        # All factors share one table, in which each has its own block of rows.
        starts = torch.tensor([0, *self.factors[:-1]], device=values.device).cumsum(0)
        return self.dropout(self.embedding(values + starts).sum(-2))

    def forward(
        self, source: Source
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "l b h"], Float[Tensor, "l b h"] | None]:
        """Return outputs at all positions, each layer's last hidden state, and an LSTM's cells."""
        lengths = source.lengths.cpu()  # where torch wants them for packing
        packed = pack_padded_sequence(
            self.embed_source(source), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, last = self.layers(packed)
        outputs, _ = pad_packed_sequence(
            outputs, batch_first=True, total_length=source.mask.shape[1]
        )
        hidden, cell = last if isinstance(last, tuple) else (last, None)
        return (
            outputs,
            self._join_directions(hidden),
            None if cell is None else self._join_directions(cell),
        )

    def _join_directions(self, last: Float[Tensor, "ld b h"]) -> Float[Tensor, "l b h"]:
        """Return one state per layer; a linear layer combines those of both directions."""
        if self.bridge is None:
            return last
        both = last.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)
        return torch.tanh(self.bridge(both)).to(last.dtype)


class RecurrentDecoder(nn.Module):
    """A stack of one-layer modules.

    One module of several layers would return the states of its top layer at every cell, but those
    of the layers below only at the last one; forks need all.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        first = config.embedding_size + (config.hidden_size if config.input_feeding else 0)
        sizes = [first] + [config.hidden_size] * (config.layers - 1)
        kind = LAYERS[config.cell]
        self.layers = nn.ModuleList(
            [kind(size, config.hidden_size, batch_first=True) for size in sizes]
        )
        self.has_cell = config.cell == "lstm"
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, inputs: Float[Tensor, "b t e"], hidden: Layered, cell: Layered
    ) -> tuple[Float[Tensor, "b t h"], Layered, Layered]:
        """Read whole rows; return top outputs, and the inputs and hidden states of every layer."""
        reads, states = [], []
        for i, layer in enumerate(self.layers):
            first = hidden[i][None]
            outputs, _ = layer(inputs, (first, cell[i][None]) if self.has_cell else first)
            reads.append(inputs)  # with the dropout of this pass, for `find_cell_states`
            states.append(outputs)
            inputs = self.dropout(outputs)
        return inputs, tuple(reads), tuple(states)

    def step(
        self, inputs: Float[Tensor, "n e"], hidden: Layered, cell: Layered
    ) -> tuple[Float[Tensor, "n h"], Layered, Layered]:
        """Read one more input; return top outputs, and the states of every layer."""
        hiddens, cells = [], []
        for i in range(len(self.layers)):
            inputs = inputs.to(hidden[i].dtype)  # cell functions do not cast under autocast
            if self.has_cell:
                new, new_cell = torch.lstm_cell(inputs, (hidden[i], cell[i]), *self.weights(i))
                cells.append(new_cell)
            else:
                new = torch.gru_cell(inputs, hidden[i], *self.weights(i))
            hiddens.append(new)
            inputs = self.dropout(new)
        return inputs, tuple(hiddens), tuple(cells)

    def find_cell_states(
        self, reads: Layered, hidden: Layered, cell: Layered, states: Layered
    ) -> Layered:
        """Return the cell states of an LSTM at every cell of a row, which `forward` does not.

        torch returns only the last cell state. Given all hidden states, the gates of all cells are
        one product; only the sum c_t = f_t·c_{t-1} + i_t·g_t has to be run along the row.
        """
        found = []
        for i in range(len(self.layers)):
            w_read, w_hidden, b_read, b_hidden = self.weights(i)
            before = torch.cat([hidden[i][:, None], states[i][:, :-1]], 1)
            gates = F.linear(reads[i], w_read, b_read) + F.linear(before, w_hidden, b_hidden)
            enter, forget, new, _ = gates.chunk(4, -1)  # the output gate is not needed
            forget, added = forget.sigmoid(), enter.sigmoid() * new.tanh()
            value, values = cell[i], []
            for t in range(forget.shape[1]):
                value = forget[:, t] * value + added[:, t]
                values.append(value)
            found.append(torch.stack(values, 1))
        return tuple(found)

    def weights(self, i: int) -> list[Tensor]:
        """Return the weights and biases of a layer, as torch's cell functions take them."""
        weights: list[Tensor] = self.layers[i].all_weights[0]  # type: ignore[index, assignment]
        return weights
