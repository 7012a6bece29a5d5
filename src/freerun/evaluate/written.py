"""What a policy writes for examples when it runs freely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from freerun.batch import Batch
from freerun.evaluate.backspaces import Backspaces, backspaces_of
from freerun.evaluate.batches import batches_by_length, on_device
from freerun.evaluate.decoding import GREEDY, Decoding
from freerun.evaluate.running import attempt
from freerun.policy import Policy
from freerun.rolling import Decoded
from freerun.tasks.base import Examples
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class Written:
    """What a policy wrote.

    Attributes:
        hypotheses: what remained for every example, without eos.
        actions: all that was done for it, backspaces and eos included; None where the vocabulary
            has no backspace.
        backspaces: how backspaces were used; None likewise.
    """

    hypotheses: list[list[int]]
    actions: list[list[int]] | None = None
    backspaces: Backspaces | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """How backspaces were used (see `Backspaces.metrics`); nothing where there are none."""
        return {} if self.backspaces is None else self.backspaces.metrics

    @classmethod
    def of(
        cls,
        vocabulary: Vocabulary,
        batch: Batch,
        decoded: Decoded,
        planted: Bool[Tensor, "n u"] | None = None,
    ) -> Written:
        """What was written for a batch.

        Args:
            vocabulary: that of the policy.
            batch: the examples.
            decoded: what was written.
            planted: which actions are planted errors.
        """
        hypotheses = decoded.lists(vocabulary.eos)
        if vocabulary.backspace is None:
            return cls(hypotheses)
        rows = zip(*(each.tolist() for each in decoded.taken), strict=True)
        actions = [tokens[: sum(mask)] for tokens, mask in rows]
        return cls(
            hypotheses, actions, backspaces_of(decoded, batch, vocabulary.backspace, planted)
        )

    @classmethod
    def joined(cls, parts: Iterable[tuple[list[int], Written]]) -> Written:
        """What was written for all examples, in their order.

        Args:
            parts: the numbers of some examples, and what was written for them; together all.
        """
        parts = list(parts)
        numbers = [number for part in parts for number in part[0]]

        def ordered(rows: Iterable[list[int]]) -> list[list[int]]:
            return [row for _, row in sorted(zip(numbers, rows, strict=True))]

        hypotheses = ordered(row for _, part in parts for row in part.hypotheses)
        counts = [part.backspaces for _, part in parts if part.backspaces is not None]
        if not counts:
            return cls(hypotheses)
        actions = ordered(row for _, part in parts for row in part.actions or [])
        return cls(hypotheses, actions, Backspaces.sum(counts))


def write(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> Written:
    """What the policy writes for every example when it runs freely.

    Args:
        policy: the model; decodes in evaluation mode.
        examples: what to decode from.
        decoding: how.
        batch_size: examples decoded together.

    Raises:
        ValueError: where the policy cannot be decoded so.
    """
    parts = []
    for numbers in batches_by_length(examples, batch_size):
        batch = on_device(examples.batch(numbers), policy)
        found = attempt(policy, batch.source, decoding, ids=batch.ids)
        parts.append((numbers, Written.of(policy.vocabulary, batch, *found)))
    return Written.joined(parts)


def outputs(
    policy: Policy, examples: Examples, *, decoding: Decoding = GREEDY, batch_size: int = 256
) -> list[list[int]]:
    """What remains of what the policy writes for every example, without eos (see `write`)."""
    return write(policy, examples, decoding=decoding, batch_size=batch_size).hypotheses
