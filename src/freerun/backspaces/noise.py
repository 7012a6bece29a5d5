"""Planted errors and their withdrawal, from which a model learns to withdraw its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.randomness import Coordinate, uniform


@runtime_checkable
class WrongTokens(Protocol):
    """The tokens that may be written in place of each action by mistake."""

    def exist(self, tokens: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Return whether there is one for each of `tokens`."""
        ...

    def choose(self, tokens: Int[Tensor, "*n"], draws: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Return a wrong token for each of `tokens` by draws in (0, 1), never the token itself.

        The result is arbitrary for tokens that have none.
        """
        ...


@dataclass(frozen=True)
class Alternatives:
    """Wrong tokens as a table: few for each, such as the digits that a digit may be taken for.

    Args:
        tokens: for every action, those that may stand in its place; only the first `counts` count.
        counts: how many there are for every action.
    """

    tokens: Int[Tensor, "a k"]
    counts: Int[Tensor, "a"]

    @classmethod
    def build(cls, mistakes: Mapping[int, Sequence[int]], actions: int) -> Alternatives:
        """Make a table from `mistakes`; actions that are not named have none.

        Args:
            mistakes: for a token, those that are written in its place.
            actions: how many actions there are.

        Raises:
            ValueError: if a token is no action, named twice, or its own mistake, or where no
                token has any.
        """
        for token, wrong in mistakes.items():
            for other in (token, *wrong):
                if not 0 <= other < actions:
                    raise ValueError(
                        f"mistakes of token {token}: {other} is no action; they are 0 to "
                        f"{actions - 1}"
                    )
            if token in wrong:
                raise ValueError(f"token {token} is named as a mistake for itself")
            if len(set(wrong)) < len(wrong):
                raise ValueError(f"a mistake for token {token} is named twice")
        most = max(map(len, mistakes.values()), default=0)
        if not most:
            raise ValueError("no token has a mistake that may stand in its place")
        tokens = torch.zeros(actions, most, dtype=torch.long)
        counts = torch.zeros(actions, dtype=torch.long)
        for token, wrong in mistakes.items():
            tokens[token, : len(wrong)] = torch.tensor(wrong, dtype=torch.long)
            counts[token] = len(wrong)
        return cls(tokens, counts)

    def exist(self, tokens: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Return whether there is a wrong token for each of `tokens`."""
        return self.counts.to(tokens.device)[tokens] > 0

    def choose(self, tokens: Int[Tensor, "*n"], draws: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Return a wrong token for each of `tokens`, uniform by draws in (0, 1)."""
        which = (draws * self.counts.to(tokens.device)[tokens]).long()
        return self.tokens.to(tokens.device)[tokens, which]


@dataclass(frozen=True)
class AnyToken:
    """Wrong tokens at random: all allowed tokens except the right one, without a table of pairs.

    Args:
        allowed: the tokens, in rising order.
        places: the place of each action among them; their number for actions that are not allowed.
    """

    allowed: Int[Tensor, "k"]
    places: Int[Tensor, "a"]

    @classmethod
    def build(cls, actions: int, leave_out: Sequence[int] = ()) -> AnyToken:
        """Allow any action in the place of any other.

        Args:
            actions: the number of actions.
            leave_out: actions that are never written wrongly, such as eos, backspace and unknown.
                They may still be replaced.

        Raises:
            ValueError: if none is left, or one that is left out is no action.
        """
        for token in leave_out:
            if not 0 <= token < actions:
                raise ValueError(f"{token} is no action; they are 0 to {actions - 1}")
        kept = torch.ones(actions, dtype=torch.bool)
        kept[list(leave_out)] = False
        allowed = kept.nonzero()[:, 0]
        if not len(allowed):
            raise ValueError("all actions are left out; one at least must be written wrongly")
        places = torch.where(kept, kept.long().cumsum(0) - 1, len(allowed))
        return cls(allowed, places)

    def exist(self, tokens: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Return whether there is a wrong token for each of `tokens`."""
        return self._counts(self.places.to(tokens.device)[tokens]) > 0

    def choose(self, tokens: Int[Tensor, "*n"], draws: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Return a wrong token for each of `tokens`, uniform by draws in (0, 1)."""
        right = self.places.to(tokens.device)[tokens]
        which = (draws * self._counts(right)).long()
        which = which + (which >= right).long()  # skips the right one
        return self.allowed.to(tokens.device)[which.clamp(max=len(self.allowed) - 1)]

    def _counts(self, places: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        return len(self.allowed) - (places < len(self.allowed)).long()


@dataclass(frozen=True)
class NoisyTargets:
    """Targets as action sequences that go wrong at times, and withdraw what was wrong.

    Args:
        actions: what is written and withdrawn.
        mask: true on actions, false on the padding that follows them.
        planted: true on the wrong tokens, and not on the backspaces that withdraw them.
    """

    actions: Int[Tensor, "b u"]
    mask: Bool[Tensor, "b u"]
    planted: Bool[Tensor, "b u"]


def insert_noise(
    target: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    alternatives: WrongTokens,
    *,
    rate: float,
    most: int = 1,
    backspace: int,
    pad: int,
    names: tuple[Coordinate, ...],
    ids: Int[Tensor, "b"],
) -> NoisyTargets:
    """Plant errors before target tokens, eos too, each followed by its withdrawal.

    Cundy, Ermon 2024, arXiv 2306.05426. With probability `rate`, before a token come 1 … `most`
    wrong ones, their number uniform, and as many backspaces. Each wrong one is drawn
    from the alternatives of the token that they stand before; where it has none, no error is
    planted. What remains is the target.

    Args:
        target: the reference tokens, eos included.
        mask: true on them, false on the padding that follows, which is ignored.
        alternatives: what may be written wrongly in the place of a token.
        rate: the probability of an error before a token, in [0, 1].
        most: the maximum number of wrong tokens in a row, at least 1.
        backspace: the action that withdraws.
        pad: what fills shorter rows.
        names: what the draws are named by, beside example and cell: seed, update and so on.
        ids: of the examples.

    Raises:
        ValueError: if rate or most is out of range.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}; it must lie in [0, 1]")
    if most < 1:
        raise ValueError(f"most is {most}; it must be at least 1")
    right = target.masked_fill(~mask, 0)  # padding may be no action
    cells = torch.arange(target.shape[1], device=target.device)
    named = (*names, "noise", ids[:, None], cells)
    planting = mask & (uniform(*named, dtype=torch.float64) < rate) & alternatives.exist(right)
    run = 1 + (uniform(*named, "run", dtype=torch.float64) * most).long()
    run = torch.where(planting, run, 0)
    ends = (torch.where(mask, 2 * run + 1, 0)).cumsum(1)  # where the next token begins
    width = int(ends[:, -1].max()) if target.numel() else 0
    # Scatter has no mask: padding goes to a spare column, which is cut off.
    actions = target.new_full((len(target), width + 1), backspace)
    planted = torch.zeros_like(actions, dtype=torch.bool)
    actions.scatter_(1, torch.where(mask, ends - 1, width), target)
    for turn in range(int(run.max()) if target.numel() else 0):
        place = torch.where(turn < run, ends - 1 - 2 * run + turn, width)
        draws = uniform(*named, "token", turn, dtype=torch.float64)
        actions.scatter_(1, place, alternatives.choose(right, draws))
        planted.scatter_(1, place, True)
    lengths = ends[:, -1:] if target.shape[1] else ends.new_zeros(len(ends), 1)
    there = torch.arange(width, device=target.device) < lengths
    return NoisyTargets(actions[:, :width].masked_fill(~there, pad), there, planted[:, :width])
