"""Metrics of how a policy used its backspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from freerun.backspaces import count_usage, mark_withdrawn
from freerun.batch import Batch
from freerun.decoding import Decoded


@dataclass(frozen=True)
class Backspaces:
    """Counts of backspaces and of their effects.

    Attributes:
        actions: all actions: tokens, eos and backspaces.
        backspaces: the actions that are backspaces.
        withdrawals: the backspaces that withdrew a token; at the prompt there is none to withdraw.
        rewritten: the withdrawals after which a different token was written in that place.
        right: the rewritten ones with the token of the reference; None without references.
        planted: the planted errors; None if none were planted.
        withdrawn: the planted errors that were withdrawn; None if none were planted.
    """

    actions: int
    backspaces: int
    withdrawals: int
    rewritten: int
    right: int | None = None
    planted: int | None = None
    withdrawn: int | None = None

    @classmethod
    def sum(cls, counts: Sequence[Backspaces]) -> Backspaces:
        """Add up counts; a number that is None in one of them is None in the sum."""
        found: dict[str, Any] = {}
        for field in fields(cls):
            each = [getattr(count, field.name) for count in counts]
            found[field.name] = None if None in each else sum(each)
        return cls(**found)

    @property
    def metrics(self) -> dict[str, float]:
        """Fractions in [0, 1]; those with a denominator of 0 are omitted.

        `backspace_rate`: the fraction of actions that are backspaces. `rewritten`: the fraction of
        withdrawals after which a different token was written in that place. `right_after`: the
        fraction of these tokens that equal the reference. `withdrawn`: the fraction of planted
        errors that were withdrawn.
        """
        shares = {
            "backspace_rate": (self.backspaces, self.actions),
            "rewritten": (self.rewritten, self.withdrawals),
            "right_after": (self.right, self.rewritten),
            "withdrawn": (self.withdrawn, self.planted),
        }
        return {
            name: part / whole
            for name, (part, whole) in shares.items()
            if part is not None and whole
        }


def count_backspaces(
    decoded: Decoded, batch: Batch, backspace: int, planted: Bool[Tensor, "n u"] | None = None
) -> Backspaces:
    """Count how backspaces were used in a batch of outputs.

    Args:
        decoded: the outputs.
        batch: their examples; a token is right if it equals the target, if there is one.
        backspace: the action that withdraws the last token.
        planted: which actions are planted errors.
    """
    actions, mask = decoded.all_actions
    references = (batch.target, batch.mask) if bool(batch.mask.any()) else None
    found = count_usage(actions, mask, backspace=backspace, references=references)
    undone = (
        None if planted is None else planted & mark_withdrawn(actions, mask, backspace=backspace)
    )
    return Backspaces(
        actions=int(found.actions.sum()),
        backspaces=int(found.backspaces.sum()),
        withdrawals=int(found.withdrawals.sum()),
        rewritten=int(found.rewritten.sum()),
        right=None if found.right is None else int(found.right.sum()),
        planted=None if planted is None else int(planted.sum()),
        withdrawn=None if undone is None else int(undone.sum()),
    )
