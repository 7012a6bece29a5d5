"""The protocol of costs, and the costs by name."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.chunks import chunk_f1, chunk_tags
from freerun.costs.edit_distance import edit_distance
from freerun.costs.hamming import hamming, hamming_total
from freerun.costs.ngrams import bleu, bleu_1, gleu
from freerun.costs.rows import check_pairs, split_rows


class PythonCost:
    """A cost computed by a Python function of one hypothesis and one reference.

    Use it for metrics of other packages, on lists of token ids or on text. The function is called
    pair by pair, which is far slower than a batched cost; a warning is issued once. Costs may have
    any range, but lower must be better, and the α of a loss must match their scale.

    Attributes:
        name: the name of the cost in messages.

    Args:
        function: function(hypothesis, reference), which returns a finite number.
        on: the arguments of the function: `tokens`, lists of token ids without eos, or `text`.
        write: converts a list of token ids to text; required for `text`, and only there.
        name: the name of the cost in messages; by default the name of the function.

    Raises:
        ValueError: if `on` is neither, or `write` is missing or not used.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], object],
        on: Literal["tokens", "text"] = "tokens",
        write: Callable[[list[int]], str] | None = None,
        name: str | None = None,
    ) -> None:
        if on not in ("tokens", "text"):
            raise ValueError(f"on is {on!r}; a cost is computed on 'tokens' or on 'text'")
        if on == "text" and write is None:
            raise ValueError("a cost on text needs write, which converts token ids to text")
        if on == "tokens" and write is not None:
            raise ValueError("write converts token ids to text, but this cost is on tokens")
        self._function = function
        self._write = write
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self._warned = False

    def __repr__(self) -> str:
        return f"PythonCost({self.name!r}, on={'tokens' if self._write is None else 'text'!r})"

    def __call__(
        self,
        hypotheses: Int[Tensor, "n h"],
        hypothesis_lengths: Int[Tensor, "n"],
        references: Int[Tensor, "n r"],
        reference_lengths: Int[Tensor, "n"],
    ) -> Float[Tensor, "n"]:
        """The function's value for every row, in double precision.

        Raises:
            ValueError: if shapes or lengths are wrong, or a value is not a finite number; and the
                message names row and value.
        """
        check_pairs(hypotheses, hypothesis_lengths, references, reference_lengths)
        ours = split_rows(hypotheses, hypothesis_lengths)
        theirs = split_rows(references, reference_lengths)
        began = time.perf_counter()
        values = [self._value(i, *pair) for i, pair in enumerate(zip(ours, theirs, strict=True))]
        if values and not self._warned:
            self._warned = True
            rate = len(values) / (time.perf_counter() - began)
            warnings.warn(
                f"the cost {self.name} is a Python function, called for one pair at a time: "
                f"{rate:,.0f} pairs a second so far, where a batched cost such as "
                "freerun.costs.bleu makes 100,000 or more",
                stacklevel=2,
            )
        return torch.tensor(values, dtype=torch.float64, device=hypotheses.device)

    def _value(self, row: int, hypothesis: list[int], reference: list[int]) -> float:
        if self._write is None:
            value = self._function(hypothesis, reference)
        else:
            value = self._function(self._write(hypothesis), self._write(reference))
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if not isinstance(value, Real) or not abs(float(value)) < float("inf"):
            raise ValueError(_not_finite(self.name, row, value))
        return float(value)


def check_costs(costs: object, rows: int, name: str = "the cost") -> Float[Tensor, "{rows}"]:
    """Check the costs that a user's batched function returned; return them in double precision.

    Args:
        costs: the result of the function, which should be a tensor with one cost for each row.
        rows: the number of rows.
        name: the name of the function in messages.

    Raises:
        ValueError: if it is not such a tensor, or a cost is NaN or infinite. The message names row
            and value.
    """
    if not isinstance(costs, Tensor) or costs.shape != (rows,):
        shape = f" of shape {tuple(costs.shape)}" if isinstance(costs, Tensor) else ""
        raise ValueError(
            f"{name} gave a {type(costs).__name__}{shape} for {rows} rows; it must be a tensor of "
            f"shape ({rows},), a number for each"
        )
    costs = costs.double()
    wrong = ~costs.isfinite()
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(_not_finite(name, row, costs[row].item()))
    return costs


def _not_finite(name: str, row: int, value: object) -> str:
    return f"{name} gave {value!r} for row {row}; a cost is a finite number"


CostName = Literal[
    "hamming", "hamming_total", "edit_distance", "bleu", "bleu_1", "gleu", "chunk_f1"
]
"""The names of costs (see `make_cost`)."""


@runtime_checkable
class Cost(Protocol):
    """A cost Δ(ŷ, y*) of every output of a batch, given its reference; lower is better."""

    def __call__(
        self,
        hypotheses: Int[Tensor, "n h"],
        hypothesis_lengths: Int[Tensor, "n"],
        references: Int[Tensor, "n r"],
        reference_lengths: Int[Tensor, "n"],
    ) -> Float[Tensor, "n"]:
        """Compute the cost of every row, in double precision, independently of the other rows.

        Args:
            hypotheses: the outputs; values beyond a row's length are ignored.
            hypothesis_lengths: the number of tokens of every output, without eos.
            references: the targets, likewise.
            reference_lengths: the number of tokens of every target, without eos.
        """
        ...


_PURE: dict[str, Callable[..., Float[Tensor, "n"]]] = {
    "hamming": hamming,
    "hamming_total": hamming_total,
    "edit_distance": edit_distance,
    "bleu": bleu,
    "bleu_1": bleu_1,
    "gleu": gleu,
}


def make_cost(name: str, symbols: Sequence[str], unknown: int | None = None) -> Cost:
    """Return the cost with a name, for outputs in a vocabulary.

    Args:
        name: one of `CostName`.
        symbols: the text of every token; `chunk_f1` reads its tags there.
        unknown: a token that never counts as a match, such as `<unk>`.

    Raises:
        ValueError: if the name is unknown, or `symbols` are not tags, for `chunk_f1`.
    """
    if name == "chunk_f1":
        return partial(chunk_f1, tags=chunk_tags(symbols, unknown))
    if name not in _PURE:
        names = ", ".join(get_args(CostName))
        raise ValueError(f"there is no cost called {name!r}; the costs are {names}")
    return partial(_PURE[name], unknown=unknown)
