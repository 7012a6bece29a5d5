"""Contrastive search."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.batch import Source
from freerun.decoding.choices import evaluation_mode, precise
from freerun.decoding.loop import Decoded, checked_limit, run
from freerun.policy import Policy, State


@runtime_checkable
class TellingPolicy(Policy, Protocol):
    """A policy that tells the hidden states from which its scores are made.

    Its traces have them, too: `hidden` [b, s, h] of every slot, of which those of a row's prompt
    and inputs come first, `before` [b] slots before cell 0.
    """

    def advance(self, state: State, inputs: Int[Tensor, "n"]) -> tuple[Float[Tensor, "n h"], State]:
        """As `step`, without projecting to scores."""
        ...

    def scores(self, hidden: Float[Tensor, "n h"]) -> Float[Tensor, "n a"]:
        """The scores of the actions."""
        ...


class _HiddenTrace(Protocol):
    """The trace of a policy that tells its hidden states."""

    hidden: Float[Tensor, "b s h"]
    before: Int[Tensor, "b"]


@torch.no_grad()
def contrastive_search(
    policy: Policy,
    source: Source,
    *,
    top_k: int,
    penalty: float,
    limit: Int[Tensor, "n"] | None = None,
) -> Decoded:
    """Of the likeliest tokens, one that does not say again what stands.

    Su et al. 2022, arXiv 2202.06417, equation 5: among the `top_k` likeliest tokens v, the one with
    the largest (1 - penalty)·p(v) - penalty·max_j cos(h_v, h_j). h_v is the last hidden state once
    v is read; j runs over all that was read before, the prompt of a causal model included. Every
    candidate is read, so a cell costs `top_k` steps. A token that would stand beyond the model's
    positions cannot be compared: there, at the end of the longest rows, the likeliest is taken.

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        top_k: the number of candidates; 1 is greedy decoding.
        penalty: the weight of the comparison, in [0, 1]; 0 is greedy decoding.
        limit: the most tokens of each row; by default the policy's own limit.

    Returns:
        What was written, with log-probabilities under the policy.

    Raises:
        ValueError: where a setting is out of range, the policy tells no hidden states, or its
            vocabulary has a backspace.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    if not 0 <= penalty <= 1:
        raise ValueError(f"penalty is {penalty}; it must lie in [0, 1]")
    if not isinstance(policy, TellingPolicy):
        raise ValueError(
            f"contrastive search needs hidden states, and {type(policy).__name__} tells none; "
            "Hugging Face models do"
        )
    if policy.vocabulary.backspace is not None:
        raise ValueError(
            "contrastive search cannot withdraw tokens, and this vocabulary has a backspace: "
            "decode greedily or sample"
        )
    limit = checked_limit(policy, source, limit)
    with evaluation_mode(policy):
        search = _Search(policy, source, min(top_k, policy.vocabulary.actions), penalty, limit)
        return run(search, policy.vocabulary, search.choose, limit)


class _Search:
    """Rows that read every candidate before they choose one."""

    def __init__(
        self,
        policy: TellingPolicy,
        source: Source,
        top_k: int,
        penalty: float,
        limit: Int[Tensor, "n"],
    ) -> None:
        self.policy, self.top_k, self.penalty = policy, top_k, penalty
        rows = torch.arange(len(limit), device=limit.device)
        first = torch.full_like(rows, policy.vocabulary.bos)[:, None]
        trace = policy.force(source, first)
        self.scores = trace.logits(torch.ones_like(first, dtype=torch.bool))
        self.state = trace.fork(rows, torch.zeros_like(rows))
        # Directions of hidden states: of the prompts, and room for what is written.
        told = cast("_HiddenTrace", trace)
        self.used = told.hidden.shape[1]
        read = F.normalize(precise(told.hidden.flatten(0, 1)), dim=-1).unflatten(0, (len(rows), -1))
        self.past = F.pad(read, (0, 0, 0, int(limit.max())))
        slots = torch.arange(self.past.shape[1], device=limit.device)
        self.seen = slots <= told.before[:, None]
        self.offset, self.tried = rows * top_k, rows.new_zeros(len(rows), 0)
        self.hidden = self.directions = told.hidden.new_zeros(0)

    def read(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row goes on with its candidate: what every next token is worth, -inf of most."""
        if self.tried.shape[1]:
            chosen = (self.tried == inputs[:, None]).byte().argmax(1)
            kept = self.offset + chosen
            self.state, self.scores = self.state.select(kept), self.policy.scores(self.hidden[kept])
            self.past[:, self.used] = self.directions[kept]
            self.seen[:, self.used] = True
            self.used += 1
        self.log_probs = precise(self.scores).log_softmax(-1)
        values, self.tried = self.log_probs.exp().topk(self.top_k, -1)
        rows = torch.arange(len(values), device=values.device)
        self.offset = rows * self.top_k
        several = self.state.select(rows.repeat_interleave(self.top_k))
        self.hidden, self.state = self.policy.advance(several, self.tried.flatten())
        self.directions = F.normalize(precise(self.hidden), dim=-1)
        of_rows = self.directions.unflatten(0, (len(rows), -1))
        alike = self.past[:, : self.used] @ of_rows.transpose(1, 2)
        alike = alike.masked_fill(~self.seen[:, : self.used, None], -torch.inf).amax(1)
        worth = (1 - self.penalty) * values - self.penalty * alike
        worth = worth.where(worth.isfinite(), values)
        return torch.full_like(self.log_probs, -torch.inf).scatter(1, self.tried, worth)

    def choose(
        self, worth: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """The tokens that are worth most, and their log-probabilities under the policy."""
        tokens = worth.argmax(-1)
        return tokens, self.log_probs.gather(-1, tokens[:, None])[:, 0]

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        self.offset, self.tried = self.offset[rows], self.tried[rows]
        self.past, self.seen = self.past[rows], self.seen[rows]
