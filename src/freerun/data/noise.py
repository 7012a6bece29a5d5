"""Tokens that are plausibly written in the place of others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.randomness import uniform


@dataclass(frozen=True)
class SymbolNoise:
    """Replaces a token by a uniform one, which may be the same, with probability `rate`.

    Args:
        rate: the probability, in [0, 1].
        symbols: replacements are drawn from 0 … symbols-1.
        seed: the seed of the draws.
        stream: what they are for, such as "spelling dev".
        redrawn: whether they are drawn anew in every epoch.
    """

    rate: float
    symbols: int
    seed: int
    stream: str
    redrawn: bool

    def __call__(
        self,
        values: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Int[Tensor, "b s"]:
        """The tokens of examples `ids` in `epoch`; padding stays."""
        when = epoch if self.redrawn else 0
        cells = torch.arange(values.shape[1])
        draws = uniform(self.seed, self.stream, when, ids[:, None], cells, dtype=torch.float64)
        # Below the rate, a draw divided by the rate is uniform again, and chooses the token.
        chosen = (draws / self.rate * self.symbols).long() if self.rate else values
        return torch.where(mask & (draws < self.rate), chosen, values)


_DIGIT = re.compile(r"([Ġ▁]?)[0-9]")
"""One digit, maybe behind the space of byte-level (Ġ) or SentencePiece tokens (▁)."""


def mistaken_digits(symbols: Sequence[str]) -> dict[int, list[int]]:
    """For every token that is one digit, the others that are.

    Digits with a space before them are mistaken for such only.

    Args:
        symbols: the text of every token, in the order of their ids.

    Raises:
        ValueError: where no two tokens are digits.
    """
    groups: dict[str, list[int]] = {}
    for token, symbol in enumerate(symbols):
        if match := _DIGIT.fullmatch(symbol):
            groups.setdefault(match[1], []).append(token)
    found = {
        token: [other for other in group if other != token]
        for group in groups.values()
        if len(group) > 1
        for token in group
    }
    if not found:
        raise ValueError("no two tokens of the model are single digits; use noise_tokens=random")
    return found
