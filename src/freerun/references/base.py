"""The protocol of reference policies, and the reference policies by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from freerun.costs import chunk_tags
from freerun.references.max_f1 import max_f1
from freerun.references.min_edit_distance import min_edit_distance
from freerun.references.suffixes import best_suffix_bleu, best_suffix_bleu_1, best_suffix_gleu, copy

ReferenceName = Literal[
    "copy",
    "best_suffix_bleu_1",
    "best_suffix_bleu",
    "best_suffix_gleu",
    "max_f1",
    "min_edit_distance",
]
"""The names of reference policies (see `make_reference`)."""

DEFAULT_REFERENCES: dict[str, ReferenceName] = {
    "hamming": "copy",
    "hamming_total": "copy",
    "edit_distance": "min_edit_distance",
    "bleu": "best_suffix_bleu_1",
    "bleu_1": "best_suffix_bleu_1",
    "gleu": "best_suffix_gleu",
    "chunk_f1": "max_f1",
}
"""The reference policy of each cost, by its name."""


@runtime_checkable
class Reference(Protocol):
    """A reference policy: completes a prefix as well as the reference target allows."""

    def __call__(
        self,
        prefixes: Int[Tensor, "n p"],
        prefix_lengths: Int[Tensor, "n"],
        references: Int[Tensor, "n r"],
        reference_lengths: Int[Tensor, "n"],
    ) -> tuple[Int[Tensor, "n s"], Int[Tensor, "n"]]:
        """Complete every prefix, independently of the other rows.

        Args:
            prefixes: the tokens written so far; values beyond a row's length are ignored.
            prefix_lengths: the number of tokens of every prefix.
            references: the targets, likewise.
            reference_lengths: the number of tokens of every target, without eos.

        Returns:
            The tokens after every prefix, without eos, and their number; values beyond it are
            undefined.
        """
        ...


def make_reference(
    name: ReferenceName, symbols: Sequence[str], unknown: int | None = None
) -> Reference:
    """Return the reference policy with a name, for outputs in a vocabulary.

    Args:
        name: one of `ReferenceName`.
        symbols: the text of every token; `max_f1` reads its tags there.
        unknown: a token that never counts as a match, such as `<unk>`; it is copied like others.

    Raises:
        ValueError: if the name is unknown, or `symbols` are not tags, for `max_f1`.
    """
    if name == "copy":
        return copy
    if name == "max_f1":
        return _max_f1(symbols, unknown)
    if name not in _SEARCHING:
        names = ", ".join(get_args(ReferenceName))
        raise ValueError(f"there is no reference policy called {name!r}; they are {names}")
    return partial(_SEARCHING[name], unknown=unknown)


_SEARCHING = {
    "best_suffix_bleu_1": best_suffix_bleu_1,
    "best_suffix_bleu": best_suffix_bleu,
    "best_suffix_gleu": best_suffix_gleu,
    "min_edit_distance": min_edit_distance,
}


def _max_f1(symbols: Sequence[str], unknown: int | None) -> Reference:
    tags = chunk_tags(symbols, unknown)
    if "O" not in symbols:
        raise ValueError("no symbol is 'O'; max_f1 writes it where no chunk can be right anymore")
    kinds = torch.arange((int(tags.max()) + 1) // 2)
    found = tags == 2 * kinds[:, None] + 1
    begins = found.byte().argmax(1).where(found.any(1), -1)
    return partial(max_f1, tags=tags, outside=symbols.index("O"), begins=begins)
