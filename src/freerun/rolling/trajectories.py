"""Trajectories: whole prefixes to search from, as long as whoever writes them makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, inputs_of
from freerun.policy import Policy
from freerun.rolling.choices import greedy_choice
from freerun.rolling.decode import decode_by
from freerun.rolling.modes import evaluation_mode
from freerun.rolling.writing import writer_of, written

NextToken = Callable[[Int[Tensor, "n p"], Int[Tensor, "n"], Int[Tensor, "n"]], Int[Tensor, "n"]]
"""From (prefixes, their lengths, the rows of the batch that they are of) to reference tokens."""


@dataclass(frozen=True)
class Trajectories:
    """What was written during a roll-in, a row for each sentence.

    Attributes:
        tokens: the token written at every cell, eos included.
        mask: the cells of each row: true up to its eos, or to its limit.
        greedy: whether all that is written after a cell is the policy's greedy choice, so that a
            greedy roll-out of the token that stands there would write it again.
    """

    tokens: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    greedy: Bool[Tensor, "b t"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of cells of every row."""
        return self.mask.sum(1)

    def inputs(self, bos: int) -> Int[Tensor, "b t"]:
        """What every cell reads: bos, then the token written before it."""
        return inputs_of(self.tokens, bos)


def reference_trajectories(batch: Batch) -> Trajectories:
    """The targets."""
    return Trajectories(batch.target, batch.mask, torch.zeros_like(batch.mask))


@torch.no_grad()
def learned_trajectories(
    policy: Policy, batch: Batch, own: Bool[Tensor, "b"], limit: Int[Tensor, "b"]
) -> Trajectories:
    """What the policy writes greedily for the sentences of `own`, and the targets of the others.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the sentences that the policy writes.
        limit: the most tokens of each, eos included.
    """
    rows = own.nonzero()[:, 0]
    if len(rows) == 0:
        return reference_trajectories(batch)

    width = max(int(limit.max()), batch.target.shape[1])
    tokens = torch.full((len(own), width), policy.vocabulary.pad, device=own.device)
    taught = (~own).nonzero()[:, 0]
    tokens[taught, : batch.target.shape[1]] = batch.target[taught]
    lengths = batch.lengths.clone()
    with evaluation_mode(policy):
        writer = writer_of(policy)
        numbers = torch.arange(len(rows), device=rows.device)
        writer.begin(policy.start(batch.source.select(rows)), numbers)
        inputs = torch.full_like(rows, policy.vocabulary.bos)
        steps = written(writer, inputs, limit[rows], policy.vocabulary.eos)
        for cell, (writing, chosen, _) in enumerate(steps):
            tokens[rows[writing], cell] = chosen
            lengths[rows[writing]] = cell + 1
    tokens = tokens[:, : int(lengths.max())]
    mask = torch.arange(tokens.shape[1], device=own.device) < lengths[:, None]
    return Trajectories(tokens, mask, mask & own[:, None])


def mixed_trajectories(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    limit: Int[Tensor, "b"],
    reference: NextToken,
) -> Trajectories:
    """Cells of `own` are written by the policy, greedily; the others by the reference policy.

    The reference token is the one that the reference policy writes after the actual prefix.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the cells that the policy writes; at least as wide as the largest limit.
        limit: the most tokens of each sentence, eos included.
        reference: gives the next token of the reference policy.
    """
    count, longest = len(limit), int(limit.max())
    tokens = torch.full((count, longest), policy.vocabulary.pad, device=limit.device)

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen = greedy_choice(scores)
        given = (~own[rows, cell]).nonzero()[:, 0]
        if len(given):
            taught = rows[given]
            length = torch.full_like(taught, cell)
            chosen[given] = reference(tokens[taught, :cell], length, taught)
        tokens[rows, cell] = chosen
        return chosen, scores.new_zeros(len(rows))

    written = decode_by(policy, batch.source, choose, limit)
    mask = torch.arange(written.tokens.shape[1], device=own.device) < written.lengths[:, None]
    theirs = own[:, : mask.shape[1]] | ~mask
    # True where all cells after this one are the policy's own.
    after = torch.cat([theirs[:, 1:], torch.ones_like(theirs[:, :1])], 1)
    greedy = after.flip(1).int().cumprod(1).flip(1).bool()
    return Trajectories(written.tokens, mask, greedy & mask)
