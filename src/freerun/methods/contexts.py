"""Outputs that are read after other tokens, such as an earlier answer or a hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.batch import Source, shift_right
from freerun.costs.rows import length_mask
from freerun.policy import Policy, State, Trace
from freerun.vocabulary import Vocabulary


@dataclass(frozen=True)
class Context:
    """Tokens that are read before an output; nothing at all in rows without a context.

    Attributes:
        before: tokens before those of each row, such as the words "A correct answer:".
        tokens: the tokens of each row.
        lengths: their numbers.
        after: tokens after them, at least one: the first cell of the output reads the last.
        present: which rows have a context.
    """

    before: Sequence[int]
    tokens: Int[Tensor, "b h"]
    lengths: Int[Tensor, "b"]
    after: Sequence[int]
    present: Bool[Tensor, "b"]

    def shorten(self, policy: Policy, source: Source, lengths: Int[Tensor, "b"]) -> Context:
        """Return the context with as many tokens as the positions of a policy allow.

        Rows for which there is no room at all have no context.

        Args:
            policy: the model.
            source: the sources.
            lengths: the lengths of the outputs that are read afterwards.
        """
        if policy.max_positions is None:
            return self
        around = len(self.before) + len(self.after)
        room = policy.max_positions - policy.prompt_lengths(source) - lengths - around
        kept = torch.minimum(self.lengths, room.clamp(min=0))
        return Context(self.before, self.tokens, kept, self.after, self.present & (room >= 0))

    def read(
        self,
        policy: Policy,
        source: Source,
        tokens: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
    ) -> tuple[Trace, Bool[Tensor, "b u"]]:
        """Let the policy read the context and then outputs, in one pass.

        Args:
            policy: the model.
            source: the sources.
            tokens: the outputs.
            mask: true on their tokens, false on the padding that follows.

        Returns:
            The trace, and its cells that score the tokens of outputs, row by row.
        """
        lengths = mask.sum(1)
        context = self.shorten(policy, source, lengths)
        before, counts = context.join()
        rows, ends = _append(before, counts, tokens, lengths)
        cells = length_mask(rows.shape[1], ends) & ~length_mask(rows.shape[1], counts)
        return policy.force(source, shift_right(rows, policy.vocabulary.bos)), cells

    def begin(self, policy: Policy, source: Source) -> tuple[State, Int[Tensor, "b"]]:
        """Let the policy read the contexts; return its states, and the tokens to read next.

        All rows must have a context, which must leave room for a token.

        Raises:
            ValueError: if a row has none.
        """
        if not bool(self.present.all()):
            row = int((~self.present).nonzero()[0, 0])
            raise ValueError(f"row {row} has no context, or there is no room for it")
        tokens, counts = self.join()
        trace = policy.force(source, shift_right(tokens, policy.vocabulary.bos))
        rows = torch.arange(len(counts), device=counts.device)
        return trace.fork(rows, counts - 1), tokens[rows, counts - 1]

    def join(self) -> tuple[Int[Tensor, "b k"], Int[Tensor, "b"]]:
        """Return all tokens of the context of each row, and their number."""
        present = self.present.long()
        rows = self._repeat(self.before), present * len(self.before)
        rows = _append(*rows, self.tokens, self.lengths * present)
        return _append(*rows, self._repeat(self.after), present * len(self.after))

    def _repeat(self, tokens: Sequence[int]) -> Int[Tensor, "b k"]:
        found = torch.tensor(list(tokens), dtype=torch.long, device=self.lengths.device)
        return found.expand(len(self.lengths), -1)


def get_separator(vocabulary: Vocabulary, method: str) -> int:
    """Return the token between a context and an output: eos.

    Raises:
        ValueError: if there is none.
    """
    if vocabulary.eos is None:
        raise ValueError(f"{method} needs outputs that end in eos, which another output can follow")
    return vocabulary.eos


def _append(
    first: Int[Tensor, "b _"],
    first_lengths: Int[Tensor, "b"],
    second: Int[Tensor, "b _"],
    second_lengths: Int[Tensor, "b"],
) -> tuple[Int[Tensor, "b _"], Int[Tensor, "b"]]:
    """Return rows that are followed by other rows, without padding between, and their lengths."""
    lengths = first_lengths + second_lengths
    width = int(lengths.max())
    found = first.new_zeros(len(first), width)
    kept = length_mask(first.shape[1], first_lengths)
    found[length_mask(width, first_lengths)] = first[kept]
    behind = length_mask(width, lengths) & ~length_mask(width, first_lengths)
    found[behind] = second[length_mask(second.shape[1], second_lengths)]
    return found, lengths
