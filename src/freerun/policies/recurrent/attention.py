"""How the decoder looks at the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from freerun.policies.recurrent.config import RecurrentConfig


@dataclass(frozen=True)
class Memory:
    """What was read of the sources: one entry per sentence, however many rows look at it.

    `sentence[i]` is the entry that row i looks at; None where row i looks at entry i.
    """

    keys: Float[Tensor, "s p h"]
    values: Float[Tensor, "s p d"]
    mask: Bool[Tensor, "s p"]
    sentence: Int[Tensor, "n"] | None = None

    def select(self, rows: Int[Tensor, "n"]) -> Memory:
        """The memory as seen by `rows`: entries are indexed, not copied."""
        return replace(self, sentence=rows if self.sentence is None else self.sentence[rows])

    @cached_property
    def seen(self) -> tuple[Tensor, Tensor, Tensor]:
        """Keys, values and mask of each row, gathered once until rows are selected again."""
        if self.sentence is None:
            return self.keys, self.values, self.mask
        return self.keys[self.sentence], self.values[self.sentence], self.mask[self.sentence]


class Attention(nn.Module):
    """Contexts for queries, and their combination tanh(W·[context; query]).

    Queries are decoder states of several cells of a row at once. General and additive scores are
    those of Luong et al. 2015 (arXiv 1508.04025, equation 8) and Bahdanau et al. 2015 (arXiv
    1409.0473, appendix A.1.2); the combination is Luong's equation 5.
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

    def remember(self, values: Float[Tensor, "s p d"], mask: Bool[Tensor, "s p"]) -> Memory:
        """The memory of encoder outputs, keys projected once."""
        keys = values if self.kind == "aligned" else self.key(values)
        return Memory(keys, values, mask)

    def forward(
        self,
        queries: Float[Tensor, "n c h"],
        positions: Int[Tensor, "n c"],
        memory: Memory,
    ) -> Float[Tensor, "n c h"]:
        """The attentional outputs; `positions` are the cells at which the queries stand."""
        if self.kind == "aligned":
            context = self._at(positions, memory)
        else:
            keys, values, mask = memory.seen
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
    def _at(positions: Int[Tensor, "n c"], memory: Memory) -> Float[Tensor, "n c d"]:
        """The values at `positions`; cells past the end of a source read padding."""
        rows = torch.arange(len(positions), device=positions.device)
        sentence = rows if memory.sentence is None else memory.sentence
        last = memory.values.shape[1] - 1
        return memory.values[sentence[:, None], positions.clamp(max=last)]
