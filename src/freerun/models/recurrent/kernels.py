"""Cells and attention of rows that only write: the same functions as in training, but faster.

They work in place, on buffers that are used again, and take out of the loop over cells whatever
depends on a token or a sentence alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.models.recurrent.attention import Attention, AttentionMemory


class Buffers:
    """Named tensors that keep their memory from one call to the next.

    A large new tensor is slow: the operating system maps its memory page by page at the first
    write, which can take longer than the arithmetic.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def get(self, name: str, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return a tensor with arbitrary content, which is valid until the name is used again."""
        key, size = (name, dtype or self._like.dtype), prod(shape)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            held = self._held[key] = self._like.new_empty(size, dtype=key[1])
        return held[:size].view(shape)


class Product:
    """The product x·W; x and the result have the dtype of W.

    Args:
        weight: W.
        precision: the dtype to multiply in, such as that of autocast.
        buffers: memory to work in.
    """

    def __init__(
        self, weight: Float[Tensor, "k m"], precision: torch.dtype, buffers: Buffers
    ) -> None:
        self.exact, self.buffers = weight.dtype == precision, buffers
        self.weight = weight.to(precision)

    def add(self, out: Float[Tensor, "n m"], x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        """Add x·W to `out`."""
        return out.addmm_(x, self.weight) if self.exact else out.add_(self._multiply(x))

    def write(self, out: Float[Tensor, "n m"], x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        """Write x·W to `out`."""
        return torch.mm(x, self.weight, out=out) if self.exact else out.copy_(self._multiply(x))

    def _multiply(self, x: Float[Tensor, "n k"]) -> Float[Tensor, "n m"]:
        shape = (len(x), self.weight.shape[1])
        product = self.buffers.get("product", *shape, dtype=self.weight.dtype)
        return torch.mm(x.to(self.weight.dtype), self.weight, out=product)


def tanh_half_(doubled: Tensor) -> Tensor:
    """Compute tanh(x/2) in place, as 2σ(x) - 1, which takes a fraction of the time on a CPU.

    To get tanh(x), weights are doubled beforehand, which is exact in floating point.
    """
    return doubled.sigmoid_().mul_(2).sub_(1)


class CellKernel(ABC):
    """A layer of GRU or LSTM whose inputs come multiplied by their weights.

    Attributes:
        input_weight: the weights of inputs, transposed; those under a tanh are doubled.
        bias: the biases that are added to the product of inputs.
        hidden_weight: the weights of the hidden state, transposed and doubled likewise.

    Args:
        weights: the weights and biases of the layer, as torch's cell functions take them.
        precision: the dtype of products.
        buffers: memory to work in.
    """

    bias: Float[Tensor, "g"]

    def __init__(self, weights: list[Tensor], precision: torch.dtype, buffers: Buffers) -> None:
        input_weight, hidden_weight, input_bias, hidden_bias = weights
        self.size, self.buffers = hidden_weight.shape[1], buffers
        # The third block is the new value, under a tanh, in both GRU and LSTM.
        scale = torch.ones_like(input_bias)
        scale[2 * self.size : 3 * self.size] = 2
        self.input_weight = (input_weight * scale[:, None]).T
        self.hidden_weight = (hidden_weight * scale[:, None]).T
        self._prepare(input_bias * scale, hidden_bias * scale, precision)

    @abstractmethod
    def _prepare(
        self,
        input_bias: Float[Tensor, "g"],
        hidden_bias: Float[Tensor, "g"],
        precision: torch.dtype,
    ) -> None:
        """Set the biases and products."""

    @abstractmethod
    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        product: Float[Tensor, "n g"] | None,
    ) -> None:
        """Compute one step in place: `state` becomes the new state, the rest is overwritten.

        Args:
            gates: the inputs times `input_weight`, plus `bias`.
            state: the hidden state [n, h], and the cell state of an LSTM.
            product: the hidden state times `hidden_weight`, if it is known.
        """


class GRUKernel(CellKernel):
    """Cho et al. 2014, arXiv 1406.1078, with the reset gate after the product, as in torch."""

    def _prepare(
        self,
        input_bias: Float[Tensor, "g"],
        hidden_bias: Float[Tensor, "g"],
        precision: torch.dtype,
    ) -> None:
        both = 2 * self.size
        self.bias, self.inner_bias = input_bias.clone(), hidden_bias[both:]
        self.bias[:both] += hidden_bias[:both]
        self.both_product = Product(self.hidden_weight[:, :both], precision, self.buffers)
        self.new_product = Product(self.hidden_weight[:, both:], precision, self.buffers)

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        product: Float[Tensor, "n g"] | None,
    ) -> None:
        """Set h to (1 - z)·n + z·h, where n = tanh(W·x + r·(U·h + b)), and r, z are sigmoids."""
        (hidden,), size = state, self.size
        # Views: everything below happens inside `gates` and the state.
        both, new = gates[:, : 2 * size], gates[:, 2 * size :]
        if product is None:
            self.both_product.add(both, hidden)
            reset = self.new_product.write(self.buffers.get("reset", len(hidden), size), hidden)
        else:
            both.add_(product[:, : 2 * size])
            reset = product[:, 2 * size :]
        both.sigmoid_()
        tanh_half_(new.addcmul_(both[:, :size], reset.add_(self.inner_bias)))
        torch.lerp(new, hidden, both[:, size:], out=hidden)


class LSTMKernel(CellKernel):
    """Hochreiter and Schmidhuber 1997, with forget gates and without peepholes, as in torch."""

    def _prepare(
        self,
        input_bias: Float[Tensor, "g"],
        hidden_bias: Float[Tensor, "g"],
        precision: torch.dtype,
    ) -> None:
        self.bias = input_bias + hidden_bias
        self.product = Product(self.hidden_weight, precision, self.buffers)

    def step(
        self,
        gates: Float[Tensor, "n g"],
        state: tuple[Tensor, ...],
        product: Float[Tensor, "n g"] | None,
    ) -> None:
        """Set c to f·c + i·g and h to o·tanh(c); i, f, o: sigmoids of W·x + U·h + b, g: a tanh."""
        hidden, cell = state
        self.product.add(gates, hidden) if product is None else gates.add_(product)
        enter, forget, new, leave = gates.sigmoid_().chunk(4, 1)
        new.mul_(2).sub_(1)  # a sigmoid of twice the sum, so this makes it a tanh
        cell.mul_(forget).addcmul_(enter, new)
        torch.mul(cell, 2, out=hidden)
        tanh_half_(hidden).mul_(leave)


CELL_KERNELS: dict[str, type[CellKernel]] = {"gru": GRUKernel, "lstm": LSTMKernel}


PAGE_ROWS = 16
"""The number of rows of one sentence that are looked up together."""

# Temporaries of a block of pages: on a CPU what its caches hold. Elsewhere the bound only limits
# memory, as a few large kernels are fastest.
_BLOCK_BYTES_CPU = 2**20
_BLOCK_BYTES = 2**28


class AttentionKernel(ABC):
    """From the hidden states of rows to attentional outputs tanh(W·[context; query]).

    A context is a weighted sum of values, so its product with W may be taken of every value
    beforehand: once per position of a sentence, however many rows look at it.
    """

    def __init__(self, attention: Attention, precision: torch.dtype, buffers: Buffers) -> None:
        weight = 2 * attention.combine.weight  # doubled for `tanh_half_`
        size, self.dtype = len(weight), weight.dtype
        self.attention, self.buffers = attention, buffers
        self.value_weight = weight[:, :-size].T
        self.query_product = Product(weight[:, -size:].T, precision, buffers)

    @abstractmethod
    def begin(
        self, memory: AttentionMemory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]
    ) -> None:
        """Start over with n rows, each with its sentence of the memory and its next cell."""

    @abstractmethod
    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`."""

    @abstractmethod
    def attend(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """Return the attentional outputs, and move on by one cell."""


def make_attention_kernel(
    attention: Attention, precision: torch.dtype, buffers: Buffers
) -> AttentionKernel:
    """Return the kernel that computes the same as `attention`."""
    kind = AlignedKernel if attention.kind == "aligned" else PagedKernel
    return kind(attention, precision, buffers)


class AlignedKernel(AttentionKernel):
    """Aligned attention: cell t looks at position t."""

    def begin(
        self, memory: AttentionMemory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]
    ) -> None:
        """Start over with n rows, each with its sentence of the memory and its next cell."""
        width = memory.values.shape[1]
        self.values = memory.values.to(self.dtype).flatten(0, 1) @ self.value_weight
        self.place = sentence * width + position
        self.last = sentence * width + width - 1

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`."""
        self.place, self.last = self.place[rows], self.last[rows]

    def attend(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """Return the attentional outputs; cells past the end of a source get padding."""
        place = torch.minimum(self.place, self.last)
        self.place = self.place + 1
        outputs = self.buffers.get("outputs", *hidden.shape)
        torch.index_select(self.values, 0, place, out=outputs)
        return tanh_half_(self.query_product.add(outputs, hidden))


@dataclass(frozen=True)
class Pages:
    """A layout of rows in pages of `PAGE_ROWS` places, each with rows of one sentence.

    Attention is then one batched product over pages, in which rows of a sentence share its keys.

    Attributes:
        place: the place of each row, counted over all pages.
        sentence: the sentence of each page.
    """

    place: Int[Tensor, "n"]
    sentence: Int[Tensor, "p"]

    @classmethod
    def arrange(cls, sentence: Int[Tensor, "n"], sentences: int) -> Pages:
        """Return the layout of rows that look at `sentence`, in any order."""
        order = sentence.argsort(stable=True)
        counts = torch.bincount(sentence, minlength=sentences)
        pages = (counts + PAGE_ROWS - 1) // PAGE_ROWS
        # Each sentence starts a new page; the places that the pages before leave free are skipped.
        skipped = PAGE_ROWS * (pages.cumsum(0) - pages) - (counts.cumsum(0) - counts)
        place = torch.empty_like(sentence)
        number = torch.arange(len(order), device=order.device)
        place[order] = number + skipped[sentence[order]]
        numbers = torch.arange(sentences, device=order.device)
        return cls(place, numbers.repeat_interleave(pages))


class PagedKernel(AttentionKernel):
    """General and additive attention: all rows of a sentence share its keys and values."""

    def __init__(self, attention: Attention, precision: torch.dtype, buffers: Buffers) -> None:
        super().__init__(attention, precision, buffers)
        if attention.kind == "additive":
            # w·tanh(x) = w·2σ(2x) - Σw, and a softmax does not depend on the constant.
            self.score_weight = 2 * attention.weight.weight[0]
            self.additive_product = Product(2 * attention.query.weight.T, precision, buffers)

    def begin(
        self, memory: AttentionMemory, sentence: Int[Tensor, "n"], position: Int[Tensor, "n"]
    ) -> None:
        """Start over with n rows, each with its sentence of the memory."""
        attention, keys = self.attention, memory.keys.to(self.dtype)
        self.sentence = sentence
        self.outside = torch.zeros_like(memory.mask, dtype=self.dtype)
        self.outside.masked_fill_(~memory.mask, -torch.inf)  # is added to scores of padding
        self.values = memory.values.to(self.dtype) @ self.value_weight
        if attention.kind == "general":
            self.keys = keys.transpose(1, 2)
        else:
            self.keys = 2 * (keys + attention.query.bias)
        self.pages = Pages.arrange(sentence, len(memory.mask))

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`."""
        self.sentence = self.sentence[rows]
        self.pages = Pages.arrange(self.sentence, len(self.keys))

    def attend(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n h"]:
        """Return the attentional outputs."""
        get, pages = self.buffers.get, self.pages
        additive = self.attention.kind == "additive"
        queries = hidden
        if additive:
            queries = self.additive_product.write(get("queries", *hidden.shape), hidden)
        paged = get("paged", len(pages.sentence) * PAGE_ROWS, hidden.shape[1])
        paged = paged.index_copy_(0, pages.place, queries).unflatten(0, (-1, PAGE_ROWS))
        contexts = get("contexts", *paged.shape)
        score, block = (
            (self._score_additive if additive else self._score_general),
            self._count_block(),
        )
        for start in range(0, len(paged), block):
            some = slice(start, start + block)
            sentence = pages.sentence[some]
            weights = score(paged[some], sentence).add_(self.outside[sentence, None]).softmax(-1)
            torch.bmm(weights, self.values[sentence], out=contexts[some])
        outputs = get("outputs", *hidden.shape)
        torch.index_select(contexts.flatten(0, 1), 0, pages.place, out=outputs)
        return tanh_half_(self.query_product.add(outputs, hidden))

    def _score_general(
        self, queries: Float[Tensor, "p r h"], sentence: Int[Tensor, "p"]
    ) -> Float[Tensor, "p r s"]:
        return torch.bmm(queries, self.keys[sentence])

    def _score_additive(
        self, queries: Float[Tensor, "p r h"], sentence: Int[Tensor, "p"]
    ) -> Float[Tensor, "p r s"]:
        count, length, size = len(sentence), self.keys.shape[1], self.keys.shape[2]
        sums = self.buffers.get("sums", count, PAGE_ROWS, length, size)
        torch.add(queries[:, :, None], self.keys[sentence, None], out=sums)
        return (sums.sigmoid_().view(-1, size) @ self.score_weight).view(count, PAGE_ROWS, length)

    def _count_block(self) -> int:
        """Return how many pages are looked up together."""
        positions, size = self.outside.shape[1], self.values.shape[2]
        page = (PAGE_ROWS if self.attention.kind == "additive" else 2) * positions * size
        limit = _BLOCK_BYTES_CPU if self.values.device.type == "cpu" else _BLOCK_BYTES
        return max(1, limit // (page * self.values.element_size()))
