"""Actions that are not the policy's own: given ones, and planted errors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.backspaces import any_token
from freerun.randomness import uniform
from freerun.rolling.choices import Choose
from freerun.rolling.decoded import Decoded
from freerun.vocabulary import Vocabulary


def forcing(choose: Choose, tokens: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]) -> Choose:
    """The first actions of every row are given, the others are those of `choose`.

    What is given counts nothing in log-probabilities.

    Args:
        choose: from scores to actions and their log-probabilities.
        tokens: the actions that are given, which may be backspaces.
        lengths: how many are given to each row.

    Raises:
        ValueError: where a length is larger than the columns of `tokens`, or below 0.
    """
    if len(lengths):
        row = int(((lengths < 0) | (lengths > tokens.shape[1])).byte().argmax())
        if not 0 <= int(lengths[row]) <= tokens.shape[1]:
            raise ValueError(
                f"row {row} is given {int(lengths[row])} actions; it must be 0 to "
                f"{tokens.shape[1]}, the columns of tokens"
            )

    def forced(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen, gained = choose(scores, rows, cell)
        if cell >= tokens.shape[1]:
            return chosen, gained
        given = cell < lengths[rows]
        return tokens[rows, cell].where(given, chosen), gained.masked_fill(given, 0.0)

    return forced


def planting(
    choose: Choose, vocabulary: Vocabulary, *, rate: float, ids: Int[Tensor, "n"], seed: int
) -> Planting:
    """Actions of `choose`, of which some are replaced by wrong tokens.

    Args:
        choose: from scores to actions and their log-probabilities.
        vocabulary: that of the policy.
        rate: the probability that an action is replaced, in [0, 1].
        ids: names each row: equal ids of one seed meet the same errors.
        seed: names the draw.

    Raises:
        ValueError: where the rate is out of range, or there is nothing to write wrongly.
    """
    return Planting(choose, vocabulary, rate=rate, ids=ids, seed=seed)


class Planting:
    """A choice that goes wrong at times (see `planting`).

    A wrong token is drawn uniformly from all actions but the one that it replaces, eos, the
    backspace, `unknown`, bos and pad. It counts nothing in log-probabilities.
    """

    def __init__(
        self,
        choose: Choose,
        vocabulary: Vocabulary,
        *,
        rate: float,
        ids: Int[Tensor, "n"],
        seed: int,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate is {rate}; it must lie in [0, 1]")
        special = vocabulary.special
        count = vocabulary.actions - len(special)
        if count < 2:
            raise ValueError(
                f"the vocabulary has {count} tokens beside special ones; an error needs 2"
            )
        self.choose, self.rate, self.ids, self.seed = choose, rate, ids, seed
        self.wrong = any_token(vocabulary.actions, special)

    def __call__(
        self, scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """The actions of some rows, and their log-probabilities."""
        chosen, gained = self.choose(scores, rows, cell)
        ids = self.ids[rows]
        draw = uniform(self.seed, "wrong token", ids, cell, dtype=torch.float64)
        wrong = self.wrong.choose(chosen, draw)
        planted = self._coins(ids, torch.full_like(ids, cell))
        return wrong.where(planted, chosen), gained.masked_fill(planted, 0.0)

    def planted(self, decoded: Decoded) -> Bool[Tensor, "n u"]:
        """Which actions of what was written with this choice are planted errors."""
        actions, mask = decoded.taken
        cells = torch.arange(actions.shape[1], device=actions.device)
        return mask & self._coins(self.ids[:, None], cells)

    def _coins(self, ids: Int[Tensor, "..."], cells: Int[Tensor, "..."]) -> Bool[Tensor, "..."]:
        return uniform(self.seed, "plant", ids, cells, dtype=torch.float64) < self.rate
