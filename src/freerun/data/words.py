"""Words as several tokens each: the word itself, its beginning, its end, its shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.randomness import uniform

PAD, UNKNOWN = 0, 1
"""The ids of padding and of what training never met; other ids follow."""

_RUN = re.compile(r"(.)\1+", re.DOTALL)


def forms(word: str) -> tuple[str, str, str, str]:
    """A word in lower case, its first three characters, its last three, and its shape.

    The shape writes X for capitals, x for other letters, 0 for digits, any other character as it
    stands, and each run of one of them once: that of "B2-Straße" is "X0-Xx".
    """
    lower = word.lower()
    kinds = "".join(
        "X" if c.isupper() else "x" if c.isalpha() else "0" if c.isdigit() else c for c in word
    )
    return lower, lower[:3], lower[-3:], _RUN.sub(r"\1", kinds)


@dataclass(frozen=True)
class Lexicon:
    """The forms that training met.

    Args:
        entries: for every factor, its forms in the order of their ids, which begin behind UNKNOWN.
        first: for every factor, the id of the first form that came once; all behind it did too.
    """

    entries: tuple[tuple[str, ...], ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, words: Iterable[str]) -> Lexicon:
        """The forms of `words`, the commonest first."""
        counts = Counter(words)
        entries, first = [], []
        for factor in zip(*map(forms, counts), strict=True):
            total: Counter[str] = Counter()
            for form, count in zip(factor, counts.values(), strict=True):
                total[form] += count
            entries.append(tuple(form for form, _ in total.most_common()))
            first.append(UNKNOWN + 1 + sum(count > 1 for count in total.values()))
        return cls(tuple(entries), tuple(first))


class Reader:
    """Reads words by a lexicon.

    Args:
        entries: the forms of every factor (`Lexicon.entries`).
    """

    def __init__(self, entries: Sequence[Sequence[str]]) -> None:
        self.ids: list[Mapping[str, int]] = [
            {form: i for i, form in enumerate(factor, UNKNOWN + 1)} for factor in entries
        ]
        self.known: dict[str, list[int]] = {}

    def read(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of the words' forms; UNKNOWN for those that training never met."""
        for word in dict.fromkeys(words):
            if word not in self.known:
                pairs = zip(self.ids, forms(word), strict=True)
                self.known[word] = [ids.get(form, UNKNOWN) for ids, form in pairs]
        return [self.known[word] for word in words]


@dataclass(frozen=True, eq=False)
class UnknownNoise:
    """Reads forms that came once in training as unknown, so that a model learns what that means.

    Each is so read with probability `rate`, drawn anew in every epoch, and for every factor alone.

    Args:
        rate: the probability, in [0, 1].
        first: for every factor, the first of the ids that came once; all from there on did.
        seed: the seed of the draws.
    """

    rate: float
    first: Int[Tensor, "f"]
    seed: int

    def __call__(
        self,
        values: Int[Tensor, "b s f"],
        mask: Bool[Tensor, "b s"],
        ids: Int[Tensor, "b"],
        epoch: int,
    ) -> Int[Tensor, "b s f"]:
        """The tokens of examples `ids` in `epoch`."""
        _, cells, factors = (torch.arange(size) for size in values.shape)
        draws = uniform(
            self.seed, "tagging unknown", epoch, ids[:, None, None], cells[:, None], factors
        )
        return torch.where((values >= self.first) & (draws < self.rate), UNKNOWN, values)
