"""The encoder: from a source to its memory and the first state of the decoder."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from freerun.batch import Source
from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.lstm import LSTM

KINDS = {"gru": nn.GRU, "lstm": LSTM}


class Encoder(nn.Module):
    """Reads a source with recurrent layers, one way or both.

    Rows are packed, so that padding is never read, and the last state is that of the last position.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.factors = tuple(config.factors)
        self.width = config.features or len(self.factors)
        if config.features is None:
            self.embedding = nn.Embedding(sum(self.factors), config.embedding_size)
        self.layers = KINDS[config.cell](
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

    def inputs(self, source: Source) -> Float[Tensor, "b s e"]:
        """Features as they are, or the summed embeddings of each position's tokens.

        Raises:
            ValueError: where the source is not what this encoder reads.
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
        # Factor k reads its own block of rows of the one table.
        starts = torch.tensor([0, *self.factors[:-1]], device=values.device).cumsum(0)
        return self.dropout(self.embedding(values + starts).sum(-2))

    def forward(
        self, source: Source
    ) -> tuple[Float[Tensor, "b s d"], Float[Tensor, "l b h"], Float[Tensor, "l b h"] | None]:
        """Outputs at every position, the last hidden state of each layer, and for LSTM its cell."""
        lengths = source.lengths.cpu()
        packed = pack_padded_sequence(
            self.inputs(source), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, last = self.layers(packed)
        outputs, _ = pad_packed_sequence(
            outputs, batch_first=True, total_length=source.mask.shape[1]
        )
        hidden, cell = last if isinstance(last, tuple) else (last, None)
        return outputs, self._join(hidden), None if cell is None else self._join(cell)

    def _join(self, last: Float[Tensor, "ld b h"]) -> Float[Tensor, "l b h"]:
        """One state a layer: the two directions are brought together by a learned layer."""
        if self.bridge is None:
            return last
        both = last.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)
        return torch.tanh(self.bridge(both)).to(last.dtype)
