"""Noise in targets: wrong tokens and the backspaces that withdraw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.arguments import check_number, check_padding, check_shapes, check_values
from freerun.randomness import Coordinate, uniform


@runtime_checkable
class WrongTokens(Protocol):
    """Protocol: the wrong tokens that may be inserted before each action."""

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
    """A table with a few wrong tokens for each action, such as the other digits for a digit.

    Args:
        tokens: the wrong tokens for every action, of which the first `counts` are used.
        counts: the number of wrong tokens for every action.

    Raises:
        ValueError: if shapes do not match, or a count is not one of the columns of the table.
    """

    tokens: Int[Tensor, "a k"]
    counts: Int[Tensor, "a"]

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes(tokens=(self.tokens, "int a k"), counts=(self.counts, "int a"))
        most = self.tokens.shape[1]
        check_values("counts", self.counts, 0, most, what=", the columns of tokens")

    @classmethod
    def build(cls, mistakes: Mapping[int, Sequence[int]], actions: int) -> Alternatives:
        """Build a table from `mistakes`; actions that are not in it have no wrong tokens.

        Args:
            mistakes: the wrong tokens for each token.
            actions: the number of actions.

        Raises:
            ValueError: if a token is not an action, is named twice, or is its own mistake, or if
                no token has a mistake.
        """
        for token, wrong in mistakes.items():
            for other in (token, *wrong):
                if not 0 <= other < actions:
                    raise ValueError(
                        f"mistakes of token {token}: {other} is not an action; actions are 0 to "
                        f"{actions - 1}"
                    )
            if token in wrong:
                raise ValueError(f"token {token} is named as a mistake for itself")
            if len(set(wrong)) < len(wrong):
                raise ValueError(f"a mistake for token {token} is named twice")
        most = max(map(len, mistakes.values()), default=0)
        if not most:
            raise ValueError("no token has a mistake")
        tokens = torch.zeros(actions, most, dtype=torch.long)
        counts = torch.zeros(actions, dtype=torch.long)
        for token, wrong in mistakes.items():
            tokens[token, : len(wrong)] = torch.tensor(wrong, dtype=torch.long)
            counts[token] = len(wrong)
        return cls(tokens, counts)

    def exist(self, tokens: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Return whether there is a wrong token for each of `tokens`.

        Raises:
            ValueError: if one is not an action.
        """
        check_values("tokens", tokens, 0, len(self.counts) - 1, what=", the last action")
        return self.counts.to(tokens.device)[tokens] > 0

    def choose(self, tokens: Int[Tensor, "*n"], draws: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """Return a wrong token for each of `tokens`, uniform by draws in (0, 1)."""
        which = (draws * self.counts.to(tokens.device)[tokens]).long()
        return self.tokens.to(tokens.device)[tokens, which]


@dataclass(frozen=True)
class AnyToken:
    """All allowed tokens except the right one, without a table of pairs.

    Args:
        allowed: the allowed tokens, in ascending order.
        places: the index of each action in `allowed`; `len(allowed)` for the others.
    """

    allowed: Int[Tensor, "k"]
    places: Int[Tensor, "a"]

    @classmethod
    def build(cls, actions: int, leave_out: Sequence[int] = ()) -> AnyToken:
        """Allow any action before any other.

        Args:
            actions: the number of actions.
            leave_out: actions that are never written wrongly, such as eos, backspace and unknown.
                They may still be replaced.

        Raises:
            ValueError: if no action is left, or `leave_out` names something else.
        """
        for token in leave_out:
            if not 0 <= token < actions:
                raise ValueError(f"{token} is not an action; actions are 0 to {actions - 1}")
        kept = torch.ones(actions, dtype=torch.bool)
        kept[list(leave_out)] = False
        allowed = kept.nonzero()[:, 0]
        if not len(allowed):
            raise ValueError("all actions are left out; one at least must be written wrongly")
        places = torch.where(kept, kept.long().cumsum(0) - 1, len(allowed))
        return cls(allowed, places)

    def exist(self, tokens: Int[Tensor, "*n"]) -> Bool[Tensor, "*n"]:
        """Return whether there is a wrong token for each of `tokens`.

        Raises:
            ValueError: if one is not an action.
        """
        check_values("tokens", tokens, 0, len(self.places) - 1, what=", the last action")
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
    """Targets as action sequences that contain wrong tokens and withdraw them.

    Args:
        actions: tokens, eos and backspaces.
        mask: true on actions, false on the padding that follows them.
        planted: true on the wrong tokens, but not on the backspaces that withdraw them.
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
    """Insert wrong tokens before target tokens (eos included), and backspaces that withdraw them.

    Cundy, Ermon 2024, arXiv 2306.05426. With probability `rate`, a token is preceded by n wrong
    tokens, n uniform in 1 … `most`, and n backspaces. The wrong tokens are drawn from the
    alternatives of that token; if it has none, nothing is inserted. After the backspaces, the
    target remains.

    Args:
        target: the reference tokens, eos included.
        mask: true on them, false on the padding that follows, which is ignored.
        alternatives: the wrong tokens for each token.
        rate: the probability of wrong tokens before a token, in [0, 1].
        most: the maximum number of wrong tokens in a row, at least 1.
        backspace: the action that withdraws.
        pad: the token that fills shorter rows.
        names: coordinates of the draws besides example and cell, such as seed and update.
        ids: the ids of the examples.

    Raises:
        ValueError: if shapes do not match, padding does not follow, or a number is out of range.
    """
    check_shapes(target=(target, "int b t"), mask=(mask, "bool b t"), ids=(ids, "int b"))
    check_padding("mask", mask)
    check_number("rate", rate, 0, 1)
    check_number("most", most, 1)
    right = target.masked_fill(~mask, 0)  # padding may not be an action
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
