"""One batch of SEARNN's search: reading the roll-in, rolling out, and costs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs import Cost, check_costs
from freerun.methods.samples import count_text
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.references import Reference
from freerun.roll_out import RollOuts, Trials, complete_roll_outs, roll_out
from freerun.trajectories import Trajectories


@dataclass(frozen=True)
class Search:
    """Everything that the costs of a batch depend on, except the roll-in and the candidates.

    Attributes:
        policy: the model.
        batch: the sentences and their targets.
        cost: Δ, from outputs to costs.
        reference: the reference policy.
        limit: the maximum number of tokens of each sentence, eos included.
    """

    policy: Policy
    batch: Batch
    cost: Cost
    reference: Reference
    limit: Int[Tensor, "b"]

    @property
    def target_lengths(self) -> Int[Tensor, "b"]:
        """The lengths of the targets without eos; those that were cut off have none."""
        eos = self.policy.vocabulary.eos
        return count_text(self.batch.target, self.batch.lengths, eos)

    def read(self, roll_in: Trajectories) -> Trace:
        """Read the roll-in without dropout, for roll-outs to start from."""
        with torch.no_grad(), evaluation_mode(self.policy):
            return self.policy.force(self.batch.source, roll_in.inputs(self.policy.vocabulary.bos))

    def complete(
        self, prefixes: Int[Tensor, "n p"], lengths: Int[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> tuple[Int[Tensor, "n s"], Int[Tensor, "n"]]:
        """Let the reference policy complete prefixes of these rows."""
        return self.reference(prefixes, lengths, self.batch.target[rows], self.target_lengths[rows])

    def next_token(
        self, prefixes: Int[Tensor, "n p"], lengths: Int[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Int[Tensor, "n"]:
        """Return the token that the reference policy writes after prefixes of these rows."""
        rest, counts = self.complete(prefixes, lengths, rows)
        end = self.policy.vocabulary.eos
        if end is None:
            return rest[:, 0]
        first = rest[:, 0] if rest.shape[1] else torch.full_like(counts, end)
        return torch.where(counts > 0, first, end)

    def roll_out(
        self,
        trace: Trace,
        roll_in: Trajectories,
        trials: Trials,
        max_new_tokens: Int[Tensor, "b"],
        *,
        chunk_size: int = 1,
        precision: torch.dtype | None = None,
    ) -> RollOuts:
        """Let the policy continue each trial, and the reference policy complete it.

        Args:
            trace: the roll-in as `read` returned it.
            roll_in: the prefixes.
            trials: the tokens to try, and where.
            max_new_tokens: for each row, the maximum number of tokens that the policy writes; 0 to
                leave all of them to the reference policy.
            chunk_size: the maximum number of trials that the policy continues at once.
            precision: the precision of the policy; None for the precision of training.
        """
        device = trials.tokens.device.type
        with nullcontext() if precision is None else torch.autocast(device, precision):
            written = roll_out(
                self.policy,
                trace,
                roll_in,
                trials,
                limit=self.limit,
                max_new_tokens=max_new_tokens,
                chunk_size=chunk_size,
            )
        rows = trials.rows[trials.place]
        exact = self.limit[rows] if self.policy.vocabulary.eos is None else None
        return complete_roll_outs(written, rows, self.complete, exact)

    def compute_costs(self, outputs: RollOuts, rows: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """Compute the cost of each output, given the target of its row.

        Raises:
            ValueError: if there is not one cost for each, or one is not finite.
        """
        targets, lengths = self.batch.target[rows], self.target_lengths[rows]
        found = self.cost(outputs.tokens, outputs.lengths, targets, lengths)
        return check_costs(found, len(rows))
