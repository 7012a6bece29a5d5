"""Outputs that a policy writes in training, including their eos, and what SEARNN rolls out from.

They can be longer or shorter than the target. A roll-in by the reference policy, by the learned
policy, or by both returns `Trajectories`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, Source, shift_right
from freerun.costs.rows import length_mask
from freerun.decoding import CellChooser, argmax_tokens, decode_with, run_writer
from freerun.policy import Policy, State, evaluation_mode

NextToken = Callable[[Int[Tensor, "n p"], Int[Tensor, "n"], Int[Tensor, "n"]], Int[Tensor, "n"]]
"""A function from (prefixes, their lengths, their rows of the batch) to reference tokens."""


@dataclass(frozen=True)
class Trajectories:
    """The tokens written during a roll-in, one row per sentence.

    Attributes:
        tokens: the token written at every cell, eos included.
        mask: the cells of each row: true up to its eos, or its limit.
        greedy: whether all that was written after a cell is the policy's greedy choice, so that a
            greedy roll-out of the token at that cell would write the same again.
    """

    tokens: Int[Tensor, "b t"]
    mask: Bool[Tensor, "b t"]
    greedy: Bool[Tensor, "b t"]

    @property
    def lengths(self) -> Int[Tensor, "b"]:
        """The number of cells of every row."""
        return self.mask.sum(1)

    def inputs(self, bos: int) -> Int[Tensor, "b t"]:
        """Return what every cell reads: bos, then the token written before it."""
        return shift_right(self.tokens, bos)


def roll_in_reference(batch: Batch) -> Trajectories:
    """Return the targets as trajectories."""
    return Trajectories(batch.target, batch.mask, torch.zeros_like(batch.mask))


@torch.no_grad()
def write_outputs(
    policy: Policy,
    source: Source,
    limit: Int[Tensor, "n"],
    choose: CellChooser | None = None,
    *,
    rows: Int[Tensor, "n"] | None = None,
    begun: tuple[State, Int[Tensor, "n"]] | None = None,
) -> tuple[Int[Tensor, "n t"], Int[Tensor, "n"]]:
    """Let the policy write outputs, without dropout and without gradient.

    Args:
        policy: the model; writes in evaluation mode.
        source: the sources.
        limit: the maximum number of tokens of each output, eos included; at least 1.
        choose: the choice of tokens; greedy by default.
        rows: the source of each output, if there is not one for each. Sources are read once.
        begun: the states of sources that have read something, and the token that each output reads
            first; by default they read bos at the start.

    Returns:
        The tokens of every output, eos included, `pad` after them, and their number.
    """
    if rows is None:
        rows = torch.arange(len(limit), device=limit.device)
    tokens = torch.full((len(rows), int(limit.max())), policy.vocabulary.pad, device=rows.device)
    lengths = torch.zeros_like(limit)
    with evaluation_mode(policy):
        writer = policy.writer()
        if begun is None:
            begun = policy.start(source), torch.full_like(rows, policy.vocabulary.bos)
        state, inputs = begun
        writer.begin(state, rows)
        steps = run_writer(writer, inputs, limit, policy.vocabulary.eos, choose)
        for cell, (writing, chosen, _) in enumerate(steps):
            tokens[writing, cell] = chosen
            lengths[writing] = cell + 1
    return tokens[:, : int(lengths.max())], lengths


@torch.no_grad()
def roll_in_learned(
    policy: Policy, batch: Batch, own: Bool[Tensor, "b"], limit: Int[Tensor, "b"]
) -> Trajectories:
    """Let the policy write the sentences of `own` greedily; the others are their targets.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the sentences that the policy writes.
        limit: the maximum number of tokens of each, eos included.
    """
    rows = own.nonzero()[:, 0]
    if len(rows) == 0:
        return roll_in_reference(batch)

    written, counts = write_outputs(policy, batch.source.select(rows), limit[rows])
    width = max(written.shape[1], batch.target.shape[1])
    tokens = torch.full((len(own), width), policy.vocabulary.pad, device=own.device)
    taught = (~own).nonzero()[:, 0]
    tokens[taught, : batch.target.shape[1]] = batch.target[taught]
    tokens[rows, : written.shape[1]] = written
    lengths = batch.lengths.index_copy(0, rows, counts)
    tokens = tokens[:, : int(lengths.max())]
    mask = length_mask(tokens.shape[1], lengths)
    # Every token of an own sentence is the greedy choice, so all that follows a cell is.
    return Trajectories(tokens, mask, mask & own[:, None])


def roll_in_mixed(
    policy: Policy,
    batch: Batch,
    own: Bool[Tensor, "b t"],
    limit: Int[Tensor, "b"],
    reference: NextToken,
) -> Trajectories:
    """Let the policy write the cells of `own` greedily, and the reference policy the others.

    The reference policy continues the prefix that was actually written.

    Args:
        policy: the model; decodes in evaluation mode.
        batch: the sentences.
        own: the cells that the policy writes; at least as wide as the largest limit.
        limit: the maximum number of tokens of each sentence, eos included.
        reference: the next token of the reference policy.
    """
    count, longest = len(limit), int(limit.max())
    tokens = torch.full((count, longest), policy.vocabulary.pad, device=limit.device)

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        chosen = argmax_tokens(scores)
        # Rows that have reached their limit stay for a while; nothing comes next in their target.
        given = (~own[rows, cell] & (cell < limit[rows])).nonzero()[:, 0]
        if len(given):
            taught = rows[given]
            length = torch.full_like(taught, cell)
            chosen[given] = reference(tokens[taught, :cell], length, taught)
        tokens[rows, cell] = chosen  # the reference policy reads these prefixes
        return chosen, scores.new_zeros(len(rows))

    written = decode_with(policy, batch.source, choose, limit)
    mask = length_mask(written.tokens.shape[1], written.lengths)
    theirs = own[:, : mask.shape[1]] | ~mask
    # Whether all cells after this one are the policy's own: a running product from the end.
    after = torch.cat([theirs[:, 1:], torch.ones_like(theirs[:, :1])], 1)
    greedy = after.flip(1).int().cumprod(1).flip(1).bool()
    return Trajectories(written.tokens, mask, greedy & mask)
