"""How rows that only write look at the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from freerun.models.recurrent.config import RecurrentConfig
from freerun.models.recurrent.decoder import tanh_of_half_
from freerun.models.recurrent.projection import Buffers, Product


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


PAGE = 16
"""Rows of one sentence that are looked up together."""
_CACHED = 2**20
"""Bytes of temporaries on a CPU: what its caches hold."""
_BOUNDED = 2**28
"""Bytes of temporaries on other devices, where few large steps are quickest."""


@runtime_checkable
class Look(Protocol):
    """From the hidden states of all rows to what is projected."""

    def begin(self, memory: Memory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> None:
        """Row i looks at a sentence of the memory, and stands at a cell."""
        ...

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Only these rows go on."""
        ...

    def __call__(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """The attentional outputs; the rows move on by one cell."""
        ...


def look_of(attention: Attention, precision: torch.dtype, buffers: Buffers) -> Look:
    """The way to look that computes the same as `attention`."""
    kind = AlignedLook if attention.kind == "aligned" else PagedLook
    return kind(attention, precision, buffers)


class _Combining:
    """tanh(W·[context; query]), its half for the context applied to the memory beforehand.

    A context is a weighted sum of values, so the product may be taken of every value instead: once
    for each position of a sentence, however many rows look at it.
    """

    def __init__(self, attention: Attention, precision: torch.dtype, buffers: Buffers) -> None:
        weight = 2 * attention.combine.weight
        size, self.dtype = len(weight), weight.dtype
        self.attention, self.buffers = attention, buffers
        self.of_value = weight[:, :-size].T
        self.of_query = Product(weight[:, -size:].T, precision, buffers)
        if attention.kind == "additive":
            # w·tanh(x) is w·2σ(2x) less a sum of weights, which a softmax does not see.
            self.weight = 2 * attention.weight.weight[0]
            self.of_asked = Product(2 * attention.query.weight.T, precision, buffers)


class AlignedLook(_Combining):
    """Cell t sees position t."""

    def begin(self, memory: Memory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> None:
        """Row i looks at a sentence of the memory, and stands at a cell."""
        width = memory.values.shape[1]
        self.values = memory.values.to(self.dtype).flatten(0, 1) @ self.of_value
        self.place = sentence * width + position
        self.last = sentence * width + width - 1

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Only these rows go on."""
        self.place, self.last = self.place[rows], self.last[rows]

    def __call__(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """The attentional outputs; cells past the end of a source read padding."""
        place = torch.minimum(self.place, self.last)
        self.place = self.place + 1
        outputs = self.buffers.get("outputs", *hidden.shape)
        torch.index_select(self.values, 0, place, out=outputs)
        return tanh_of_half_(self.of_query.add(outputs, hidden))


@dataclass(frozen=True)
class Pages:
    """Rows laid out so that every page of `PAGE` places holds rows of one sentence.

    Attributes:
        place: the place of each row, over all pages.
        sentence: the sentence of each page.
    """

    place: Int[Tensor, "n"]
    sentence: Int[Tensor, "p"]

    @classmethod
    def of(cls, sentence: Int[Tensor, "n"], sentences: int) -> Pages:
        """The layout of rows that look at `sentence`, in any order."""
        order = sentence.argsort(stable=True)
        counts = torch.bincount(sentence, minlength=sentences)
        pages = (counts + PAGE - 1) // PAGE
        skipped = PAGE * (pages.cumsum(0) - pages) - (counts.cumsum(0) - counts)
        place = torch.empty_like(sentence)
        number = torch.arange(len(order), device=order.device)
        place[order] = number + skipped[sentence[order]]
        numbers = torch.arange(sentences, device=order.device)
        return cls(place, numbers.repeat_interleave(pages))


class PagedLook(_Combining):
    """General and additive attention: all rows of a sentence share its keys and values."""

    def begin(self, memory: Memory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> None:
        """Row i looks at a sentence of the memory."""
        attention, keys = self.attention, memory.keys.to(self.dtype)
        self.sentence = sentence
        self.outside = torch.zeros_like(memory.mask, dtype=self.dtype)
        self.outside.masked_fill_(~memory.mask, -torch.inf)
        self.values = memory.values.to(self.dtype) @ self.of_value
        if attention.kind == "general":
            self.keys = keys.transpose(1, 2)
        else:
            self.keys = 2 * (keys + attention.query.bias)
        self.pages = Pages.of(sentence, len(memory.mask))

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Only these rows go on."""
        self.sentence = self.sentence[rows]
        self.pages = Pages.of(self.sentence, len(self.keys))

    def __call__(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """The attentional outputs."""
        get, pages = self.buffers.get, self.pages
        additive = self.attention.kind == "additive"
        asked = hidden
        if additive:
            asked = self.of_asked.put(get("asked", *hidden.shape), hidden)
        paged = get("paged", len(pages.sentence) * PAGE, hidden.shape[1])
        paged = paged.index_copy_(0, pages.place, asked).unflatten(0, (-1, PAGE))
        contexts = get("contexts", *paged.shape)
        score, many = (self._additive if additive else self._general), self._at_once()
        for start in range(0, len(paged), many):
            some = slice(start, start + many)
            sentence = pages.sentence[some]
            weights = score(paged[some], sentence).add_(self.outside[sentence, None]).softmax(-1)
            torch.bmm(weights, self.values[sentence], out=contexts[some])
        outputs = get("outputs", *hidden.shape)
        torch.index_select(contexts.flatten(0, 1), 0, pages.place, out=outputs)
        return tanh_of_half_(self.of_query.add(outputs, hidden))

    def _general(
        self, queries: Float[Tensor, "p r h"], sentence: Int[Tensor, "p"]
    ) -> Float[Tensor, "p r s"]:
        return torch.bmm(queries, self.keys[sentence])

    def _additive(
        self, queries: Float[Tensor, "p r h"], sentence: Int[Tensor, "p"]
    ) -> Float[Tensor, "p r s"]:
        count, length, size = len(sentence), self.keys.shape[1], self.keys.shape[2]
        seen = self.buffers.get("seen", count, PAGE, length, size)
        torch.add(queries[:, :, None], self.keys[sentence, None], out=seen)
        return (seen.sigmoid_().view(-1, size) @ self.weight).view(count, PAGE, length)

    def _at_once(self) -> int:
        """How many pages are looked up together."""
        positions, size = self.outside.shape[1], self.values.shape[2]
        page = (PAGE if self.attention.kind == "additive" else 2) * positions * size
        most = _CACHED if self.values.device.type == "cpu" else _BOUNDED
        return max(1, most // (page * self.values.element_size()))
