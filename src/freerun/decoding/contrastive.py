"""Contrastive search."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.batch import Source
from freerun.decoding.loop import Decoded, Scorer, resolve_limit, run_scorer
from freerun.decoding.sampling import promote_scores
from freerun.policy import Policy, evaluation_mode


@torch.no_grad()
def contrastive_search(
    policy: Policy,
    source: Source,
    *,
    top_k: int,
    penalty: float,
    limit: Int[Tensor, "n"] | None = None,
) -> Decoded:
    """Write likely tokens whose hidden states differ from those before them.

    Su et al. 2022, arXiv 2202.06417, equation 5: among the `top_k` likeliest tokens v, the one with
    the largest (1 - penalty)·p(v) - penalty·max_j cos(h_v, h_j), where h_v is the hidden state
    after reading v, and j runs over all tokens read before, including the prompt of a causal model.
    Every candidate is read, so a cell costs `top_k` steps. Candidates that would lie beyond the
    model's positions have no hidden state; there, the likeliest is taken.

    Args:
        policy: the model; decodes in evaluation mode.
        source: the inputs to decode from.
        top_k: the number of candidates; 1 is greedy decoding.
        penalty: the weight of the similarity, in [0, 1]; 0 is greedy decoding.
        limit: the maximum number of tokens of each row; by default the policy's own limit.

    Returns:
        The tokens, with log-probabilities under the policy.

    Raises:
        ValueError: if a setting is out of range, the policy has no hidden states (see
            `Policy.advance`), or its vocabulary has a backspace.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}; it must be at least 1")
    if not 0 <= penalty <= 1:
        raise ValueError(f"penalty is {penalty}; it must lie in [0, 1]")
    if policy.vocabulary.backspace is not None:
        raise ValueError(
            "contrastive search cannot withdraw tokens, and this vocabulary has a backspace: "
            "decode greedily or sample"
        )
    limit = resolve_limit(policy, source, limit)
    with evaluation_mode(policy):
        scorer = _ContrastiveScorer(
            policy, source, min(top_k, policy.vocabulary.actions), penalty, limit
        )
        return run_scorer(scorer, policy.vocabulary, scorer.choose, limit)


class _ContrastiveScorer(Scorer):
    """Rows that read all candidates of a cell before one of them is chosen.

    `state` holds `top_k` rows for each row, one per candidate; `offset` is the first of them.
    """

    def __init__(
        self,
        policy: Policy,
        source: Source,
        top_k: int,
        penalty: float,
        limit: Int[Tensor, "n"],
    ) -> None:
        self.policy, self.top_k, self.penalty = policy, top_k, penalty
        rows = torch.arange(len(limit), device=limit.device)
        first = torch.full_like(rows, policy.vocabulary.bos)[:, None]
        trace = policy.force(source, first)
        hidden = trace.hidden(torch.ones_like(first, dtype=torch.bool))
        self.scores = policy.project(hidden)
        self.state = trace.fork(rows, torch.zeros_like(rows))
        read, seen = hidden[:, None], torch.ones_like(first, dtype=torch.bool)
        prompt = trace.prompt_hidden()
        if prompt is not None:
            read, seen = torch.cat([prompt[0], read], 1), torch.cat([prompt[1], seen], 1)
        # The directions of all tokens read, with room for those to be written.
        self.used, room = read.shape[1], int(limit.max())
        read = F.normalize(promote_scores(read.flatten(0, 1)), dim=-1)
        self.past = F.pad(read.unflatten(0, (len(rows), -1)), (0, 0, 0, room))
        self.seen = F.pad(seen, (0, room))
        self.offset, self.candidates = rows * top_k, rows.new_zeros(len(rows), 0)
        self.hidden = self.directions = hidden.new_zeros(0)

    def score(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Continue with the chosen candidates, and return the objective of each next token.

        It is -inf for tokens that are not candidates.
        """
        if self.candidates.shape[1]:
            # All candidates have been read: continue with the state of the chosen one.
            chosen = (self.candidates == inputs[:, None]).byte().argmax(1)
            kept = self.offset + chosen
            self.state = self.state.select(kept)
            self.scores = self.policy.project(self.hidden[kept])
            self.past[:, self.used] = self.directions[kept]
            self.seen[:, self.used] = True
            self.used += 1
        self.log_probs = promote_scores(self.scores).log_softmax(-1)
        values, self.candidates = self.log_probs.exp().topk(self.top_k, -1)
        rows = torch.arange(len(values), device=values.device)
        self.offset = rows * self.top_k
        repeated = self.state.select(rows.repeat_interleave(self.top_k))
        self.hidden, self.state = self.policy.advance(repeated, self.candidates.flatten())
        self.directions = F.normalize(promote_scores(self.hidden), dim=-1)
        directions = self.directions.unflatten(0, (len(rows), -1))
        similarity = self.past[:, : self.used] @ directions.transpose(1, 2)
        similarity = similarity.masked_fill(~self.seen[:, : self.used, None], -torch.inf).amax(1)
        worth = (1 - self.penalty) * values - self.penalty * similarity
        # Beyond the positions of a model, hidden states are NaN.
        worth = worth.where(worth.isfinite(), values)
        return torch.full_like(self.log_probs, -torch.inf).scatter(1, self.candidates, worth)

    def choose(
        self, worth: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        """Choose the tokens with the largest objective; log-probabilities are the policy's."""
        tokens = worth.argmax(-1)
        return tokens, self.log_probs.gather(-1, tokens[:, None])[:, 0]

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`, in this order."""
        # `state` and `hidden` stay whole: `offset` says where the candidates of a row are.
        self.offset, self.candidates = self.offset[rows], self.candidates[rows]
        self.past, self.seen = self.past[rows], self.seen[rows]
