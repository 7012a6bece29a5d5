"""What a cost is, and the costs by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol, get_args, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from freerun.costs.bleu import bleu, bleu_1
from freerun.costs.chunks import chunk_f1, chunk_tags
from freerun.costs.edit_distance import edit_distance
from freerun.costs.gleu import gleu
from freerun.costs.hamming import hamming, hamming_total

CostName = Literal[
    "hamming", "hamming_total", "edit_distance", "bleu", "bleu_1", "gleu", "chunk_f1"
]


@runtime_checkable
class Cost(Protocol):
    """Δ(ŷ, y*): what every output of a batch loses against its reference, lower is better."""

    def __call__(
        self,
        hypotheses: Int[Tensor, "n h"],
        hypothesis_lengths: Int[Tensor, "n"],
        references: Int[Tensor, "n r"],
        reference_lengths: Int[Tensor, "n"],
    ) -> Float[Tensor, "n"]:
        """The cost of every row, in double precision, whatever the other rows are.

        Args:
            hypotheses: the outputs; what stands beyond a row's length is not looked at.
            hypothesis_lengths: the number of tokens of every output, eos left out.
            references: the targets, likewise.
            reference_lengths: the number of tokens of every target, eos left out.
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


def named_cost(name: CostName, symbols: Sequence[str], unknown: int | None = None) -> Cost:
    """The cost of that name for outputs written in a vocabulary.

    Args:
        name: one of `CostName`.
        symbols: the text of every token; `chunk_f1` reads its tags there.
        unknown: a token that never counts as a match, such as `<unk>`.

    Raises:
        ValueError: where there is no cost of that name, or `symbols` are no tags for `chunk_f1`.
    """
    if name == "chunk_f1":
        return partial(chunk_f1, tags=chunk_tags(symbols, unknown))
    if name not in _PURE:
        names = ", ".join(get_args(CostName))
        raise ValueError(f"there is no cost called {name!r}; the costs are {names}")
    return partial(_PURE[name], unknown=unknown)
