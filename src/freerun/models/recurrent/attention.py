"""Attention to the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from freerun.models.recurrent.config import RecurrentConfig


@dataclass(frozen=True)
class AttentionMemory:
    """Encoder outputs and attention keys: one entry per sentence, however many rows look at it.

    `sentence[i]` is the entry that row i looks at; None if row i looks at entry i.
    """

    keys: Float[Tensor, "s p h"]
    values: Float[Tensor, "s p d"]
    mask: Bool[Tensor, "s p"]
    sentence: Int[Tensor, "n"] | None = None

    def select(self, rows: Int[Tensor, "n"]) -> AttentionMemory:
        """Return the memory of `rows`; entries are indexed, not copied."""
        return replace(self, sentence=rows if self.sentence is None else self.sentence[rows])

    @cached_property
    def per_row(self) -> tuple[Tensor, Tensor, Tensor]:
        """The keys, values and mask of each row; gathered once for all cells of these rows."""
        if self.sentence is None:
            return self.keys, self.values, self.mask
        return self.keys[self.sentence], self.values[self.sentence], self.mask[self.sentence]


class Attention(nn.Module):
    """Attention to the source, and the attentional output tanh(W·[context; query]).

    Queries are decoder states at several cells of a row. General and additive scores are those of
    Luong et al. 2015 (arXiv 1508.04025, equation 8) and Bahdanau et al. 2015 (arXiv 1409.0473,
    appendix A.1.2); the attentional output is Luong's equation 5. Aligned attention takes the
    encoder output at the position of the cell as context.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        size = config.hidden_size
        width = size * (2 if config.bidirectional else 1)
        self.kind = config.attention
        if self.kind in ("general", "additive"):
            self.key = nn.Linear(width, size, bias=False)
        if self.kind == "additive":
            self.query = nn.Linear(size, size)
            self.weight = nn.Linear(size, 1, bias=False)
        self.combine = nn.Linear(width + size, size, bias=False)

    def make_memory(
        self, values: Float[Tensor, "s p d"], mask: Bool[Tensor, "s p"]
    ) -> AttentionMemory:
        """Return the memory of encoder outputs, in which keys are projected once."""
        keys = values if self.kind == "aligned" else self.key(values)
        return AttentionMemory(keys, values, mask)

    def forward(
        self,
        queries: Float[Tensor, "n c h"],
        positions: Int[Tensor, "n c"],
        memory: AttentionMemory,
    ) -> Float[Tensor, "n c h"]:
        """Return the attentional outputs of queries at the cells `positions`."""
        if self.kind == "aligned":
            context = self._look_up(positions, memory)
        else:
            keys, values, mask = memory.per_row
            scores = self._scores(queries, keys).masked_fill(~mask[:, None], -torch.inf)
            context = scores.softmax(-1).to(values.dtype) @ values
        return torch.tanh(self.combine(torch.cat([context, queries.to(context.dtype)], -1)))

    def _scores(
        self, queries: Float[Tensor, "n c h"], keys: Float[Tensor, "n p h"]
    ) -> Float[Tensor, "n c p"]:
        if self.kind == "general":
            return queries.to(keys.dtype) @ keys.transpose(1, 2)
        return self.weight(torch.tanh(self.query(queries)[:, :, None] + keys[:, None]))[..., 0]

    @staticmethod
    def _look_up(positions: Int[Tensor, "n c"], memory: AttentionMemory) -> Float[Tensor, "n c d"]:
        """Return the values at `positions`; cells past the end of a source get padding."""
        rows = torch.arange(len(positions), device=positions.device)
        sentence = rows if memory.sentence is None else memory.sentence
        last = memory.values.shape[1] - 1
        return memory.values[sentence[:, None], positions.clamp(max=last)]
