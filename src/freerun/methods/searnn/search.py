"""Roll-in, trials and their costs: one batch, searched."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.costs import Cost, checked
from freerun.policy import Policy, Trace, evaluation_mode
from freerun.references import Reference
from freerun.roll_in import Trajectories
from freerun.roll_out import RollOuts, Trials, TrialSampler, complete, roll_out


@dataclass(frozen=True)
class Search:
    """What the costs of a batch depend on, beside the roll-in and what is tried.

    Attributes:
        policy: the model.
        batch: the sentences and their targets.
        cost: Δ, from outputs to costs.
        reference: the reference policy.
        limit: the most tokens of each sentence, eos included.
        precision: what roll-outs multiply in; None for whatever training does.
    """

    policy: Policy
    batch: Batch
    cost: Cost
    reference: Reference
    limit: Int[Tensor, "b"]
    precision: torch.dtype | None = None

    @property
    def fixed(self) -> bool:
        """Whether outputs have a fixed length, and no eos."""
        return self.policy.vocabulary.eos is None

    @property
    def target_lengths(self) -> Int[Tensor, "b"]:
        """The lengths of the targets, eos left out; those that were cut off have none."""
        target, lengths = self.batch.target, self.batch.lengths
        end = self.policy.vocabulary.eos
        if end is None:
            return lengths
        last = target.gather(1, lengths.clamp(min=1)[:, None] - 1)[:, 0]
        return lengths - (last == end).long()

    def read(self, roll_in: Trajectories) -> Trace:
        """The roll-in as the policy reads it without dropout."""
        with torch.no_grad(), evaluation_mode(self.policy):
            return self.policy.force(self.batch.source, roll_in.inputs(self.policy.vocabulary.bos))

    def continuation(
        self, prefixes: Int[Tensor, "n p"], lengths: Int[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> tuple[Int[Tensor, "n s"], Int[Tensor, "n"]]:
        """How the reference policy completes prefixes of these rows."""
        return self.reference(prefixes, lengths, self.batch.target[rows], self.target_lengths[rows])

    def next_token(
        self, prefixes: Int[Tensor, "n p"], lengths: Int[Tensor, "n"], rows: Int[Tensor, "n"]
    ) -> Int[Tensor, "n"]:
        """The token that the reference policy writes after prefixes of these rows."""
        rest, counts = self.continuation(prefixes, lengths, rows)
        end = self.policy.vocabulary.eos
        if end is None:
            return rest[:, 0]
        first = rest[:, 0] if rest.shape[1] else torch.full_like(counts, end)
        return torch.where(counts > 0, first, end)

    def outputs(
        self,
        trace: Trace,
        roll_in: Trajectories,
        trials: Trials,
        most: Int[Tensor, "b"],
        draw: TrialSampler | None,
        at_once: int,
    ) -> RollOuts:
        """What became of the trials: the policy's roll-out, finished by the reference policy."""
        device = trials.tokens.device.type
        with nullcontext() if self.precision is None else torch.autocast(device, self.precision):
            written = roll_out(
                self.policy,
                trace,
                roll_in,
                trials,
                limit=self.limit,
                max_new_tokens=most,
                sample=draw,
                chunk_size=at_once,
            )
        rows = trials.rows[trials.place]
        exact = self.limit[rows] if self.fixed else None
        return complete(written, rows, self.continuation, exact)

    def costs(self, outputs: RollOuts, rows: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """What each output costs against the target of its row.

        Raises:
            ValueError: where there is not one for each, or one is not finite.
        """
        targets, lengths = self.batch.target[rows], self.target_lengths[rows]
        found = self.cost(outputs.tokens, outputs.lengths, targets, lengths)
        return checked(found, len(rows))
