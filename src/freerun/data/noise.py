"""Noise in characters, and plausible mistakes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.data.store import Ragged
from freerun.randomness import uniform


@dataclass(frozen=True)
class SymbolNoise:
    """Noise that replaces a token by a uniform one, which may be the same, with probability `rate`.

    Args:
        rate: the probability, in [0, 1].
        symbols: replacements are drawn from 0 … symbols-1.
        seed: the seed of the draws.
        stream: the stream of the draws, such as "spelling dev".
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
        """Return the tokens of examples `ids` in `epoch`; padding does not change."""
        when = epoch if self.redrawn else 0
        cells = torch.arange(values.shape[1])
        draws = uniform(self.seed, self.stream, when, ids[:, None], cells, dtype=torch.float64)
        # If a draw is below the rate, their quotient is uniform, and chooses the token.
        chosen = (draws / self.rate * self.symbols).long() if self.rate else values
        return torch.where(mask & (draws < self.rate), chosen, values)


@dataclass(frozen=True, eq=False)
class Misspelling:
    """Noise on texts: characters are replaced by others of an alphabet. Their ids are its indices.

    Args:
        clean: the characters of the texts, as ids.
        noise: the noise that replaces them.
    """

    clean: Ragged
    noise: SymbolNoise

    @classmethod
    def from_texts(cls, texts: Sequence[str], alphabet: str, noise: SymbolNoise) -> Misspelling:
        """Return the noise on texts in the characters of an alphabet."""
        ids = {character: i for i, character in enumerate(alphabet)}
        rows = [[ids[character] for character in text] for text in texts]
        return cls(Ragged.from_rows(rows, len(alphabet)), noise)

    def __call__(
        self,
        values: Int[Tensor, "b s"],
        mask: Bool[Tensor, "b s"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Int[Tensor, "b s"]:
        """Return the tokens of examples `ids` in `epoch`; padding is that of `values`."""
        clean, _ = self.clean.gather(ids)
        return torch.where(mask, self.noise(clean, mask, ids, epoch), values)

    def texts(self, alphabet: str, at_once: int = 4096) -> list[str]:
        """Return the texts with the noise of the first epoch."""
        found = []
        for start in range(0, len(self.clean), at_once):
            ids = torch.arange(start, min(start + at_once, len(self.clean)))
            clean, mask = self.clean.gather(ids)
            rows = self.noise(clean, mask, ids, 0).tolist()
            lengths = self.clean.lengths[ids].tolist()
            found += [
                "".join(alphabet[token] for token in row[:length])
                for row, length in zip(rows, lengths, strict=True)
            ]
        return found


_DIGIT = re.compile(r"([Ġ▁]?)[0-9]")
"""One digit, possibly after the space of byte-level (Ġ) or SentencePiece tokens (▁)."""


def find_confusable_digits(symbols: Sequence[str]) -> dict[int, list[int]]:
    """Return the other digits for every token that is one digit.

    Digits with a space before them are only confused with each other.

    Args:
        symbols: the text of every token, in the order of their ids.

    Raises:
        ValueError: if no two tokens are digits.
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
