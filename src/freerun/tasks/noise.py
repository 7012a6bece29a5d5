"""Noise on tokens, drawn without state."""

from __future__ import annotations

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
