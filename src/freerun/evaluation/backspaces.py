"""How a policy used its backspace, over many examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from freerun.backspaces import usage, withdrawn
from freerun.batch import Batch
from freerun.decoding import Decoded


@dataclass(frozen=True)
class Backspaces:
    """How backspaces were used, counted.

    Attributes:
        actions: all actions: tokens, eos and backspaces.
        backspaces: those that are backspaces.
        withdrawals: the backspaces that withdrew a token; at the prompt they withdraw nothing.
        rewritten: the withdrawals after which another token was written in that place.
        right: of the rewritten, those where it is the reference's; None without references.
        planted: the errors that were planted; None where none were to be.
        withdrawn: the planted errors that were withdrawn; None likewise.
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
        """The counts of all together; what one did not count is not counted."""
        found: dict[str, Any] = {}
        for field in fields(cls):
            each = [getattr(count, field.name) for count in counts]
            found[field.name] = None if None in each else sum(each)
        return cls(**found)

    @property
    def metrics(self) -> dict[str, float]:
        """Shares in [0, 1]; those of nothing are left out.

        `backspace_rate` of the actions are backspaces; `rewritten` of the withdrawals were followed
        by another token in that place; `right_after` of these were the reference's; `withdrawn` of
        the planted errors were withdrawn.
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


def backspaces_of(
    decoded: Decoded, batch: Batch, backspace: int, planted: Bool[Tensor, "n u"] | None = None
) -> Backspaces:
    """How backspaces were used in a batch of outputs.

    Args:
        decoded: the outputs.
        batch: what they were decoded from; right is what equals its targets, where it has any.
        backspace: the action that withdraws.
        planted: which actions are planted errors.
    """
    actions, mask = decoded.taken
    references = (batch.target, batch.mask) if bool(batch.mask.any()) else None
    found = usage(actions, mask, backspace=backspace, references=references)
    undone = None if planted is None else planted & withdrawn(actions, mask, backspace=backspace)
    return Backspaces(
        actions=int(found.actions.sum()),
        backspaces=int(found.backspaces.sum()),
        withdrawals=int(found.withdrawals.sum()),
        rewritten=int(found.rewritten.sum()),
        right=None if found.right is None else int(found.right.sum()),
        planted=None if planted is None else int(planted.sum()),
        withdrawn=None if undone is None else int(undone.sum()),
    )
