"""Greedy decoding, sampling, and decoding with any sampler."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.decoding.backtracking import backtrack
from freerun.decoding.loop import Decoded, Scorer, resolve_limit, run_scorer
from freerun.decoding.sampling import Sampler, choose_greedily, make_sampler
from freerun.policy import Policy, State, evaluation_mode


def greedy(
    policy: Policy,
    source: Source,
    *,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
) -> Decoded:
    """Write the most likely token at every cell.

    Args:
        policy: the model; decodes in evaluation mode.
        source: the inputs to decode from.
        limit: the maximum number of tokens of each row; by default the policy's own limit.
        keep_scores: whether to return the scores of every cell.

    Raises:
        ValueError: if a limit is below 1.
    """
    return decode_with(policy, source, choose_greedily, limit, keep_scores, forbid_repeats=True)


def sample(
    policy: Policy,
    source: Source,
    *,
    ids: Int[Tensor, "n"],
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
) -> Decoded:
    """Draw tokens from the policy; log-probabilities are those of the truncated distribution.

    Args:
        policy: the model; decodes in evaluation mode.
        source: the inputs to decode from.
        ids: the id of each row: with the same seed and id, a row draws the same numbers in any
            batch.
        seed: the seed of the draws.
        temperature: divides the scores.
        top_k: draw from the k best tokens only.
        top_p: draw from the smallest set of best tokens with at least this probability.
        limit: the maximum number of tokens of each row; by default the policy's own limit.
        keep_scores: whether to return the scores of every cell.

    Raises:
        ValueError: if a setting of truncation is out of range, or a limit below 1.
    """
    choose = make_sampler(ids, seed, temperature=temperature, top_k=top_k, top_p=top_p)
    return decode_with(policy, source, choose, limit, keep_scores)


@torch.no_grad()
def decode_with(
    policy: Policy,
    source: Source,
    choose: Sampler,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
    *,
    forbid_repeats: bool = False,
) -> Decoded:
    """Write the actions that `choose(scores, rows, cell)` returns, until every row has ended.

    If the vocabulary has a backspace, tokens may be withdrawn: see `backtrack`, also for
    `forbid_repeats`, which has no effect otherwise.

    Raises:
        ValueError: if a limit is below 1, or `keep_scores` is set and tokens may be withdrawn.
    """
    if policy.vocabulary.backspace is not None:
        if keep_scores:
            raise ValueError(
                "keep_scores is for policies without backspace: scores of withdrawn cells belong "
                "to no token of the result"
            )
        return backtrack(policy, source, choose, limit, forbid_repeats=forbid_repeats)
    limit = resolve_limit(policy, source, limit)
    with evaluation_mode(policy):
        scorer = _StepScorer(policy, policy.start(source))
        return run_scorer(scorer, policy.vocabulary, choose, limit, keep_scores=keep_scores)


class _StepScorer(Scorer):
    """Scores through `Policy.step`."""

    def __init__(self, policy: Policy, state: State) -> None:
        self.policy, self.state = policy, state

    def score(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Read the last token of each row and return the scores of the next."""
        scores, self.state = self.policy.step(self.state, inputs)
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Keep only `rows`."""
        self.state = self.state.select(rows)
