"""Decoding: what a policy writes when it runs freely."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.decoding.backtracking import backtrack
from freerun.decoding.choices import Choose, evaluation_mode, greedily, sampling
from freerun.decoding.loop import LOOK, Decoded, checked_limit, run
from freerun.policy import Policy, State

__all__ = ["LOOK", "Decoded", "checked_limit", "decode_by", "greedy", "sample"]


def greedy(
    policy: Policy,
    source: Source,
    *,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
) -> Decoded:
    """The most likely token at every cell.

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        limit: the most tokens of each row; by default the policy's own limit.
        keep_scores: whether to keep the scores of every cell.

    Raises:
        ValueError: where a limit is below 1.
    """
    return decode_by(policy, source, greedily, limit, keep_scores, once=True)


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
    """Tokens drawn from the policy; log-probabilities are those of the truncated distribution.

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        ids: names each row: equal ids of one seed draw the same numbers.
        seed: names the draw.
        temperature: divides the scores.
        top_k: draw from the k best tokens only.
        top_p: draw from the smallest set of best tokens with at least this probability.
        limit: the most tokens of each row; by default the policy's own limit.
        keep_scores: whether to keep the scores of every cell.

    Raises:
        ValueError: where a setting of truncation is out of range, or a limit below 1.
    """
    choose = sampling(ids, seed, temperature=temperature, top_k=top_k, top_p=top_p)
    return decode_by(policy, source, choose, limit, keep_scores)


@torch.no_grad()
def decode_by(
    policy: Policy,
    source: Source,
    choose: Choose,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
    *,
    once: bool = False,
) -> Decoded:
    """Write by `choose(scores, rows, cell)`, which gives tokens and log-probabilities, to the end.

    With a backspace in the vocabulary, tokens may be withdrawn (see `backtrack`, and there `once`).

    Raises:
        ValueError: where a limit is below 1, or scores are to be kept of tokens that may be
            withdrawn.
    """
    if policy.vocabulary.backspace is not None:
        if keep_scores:
            raise ValueError(
                "keep_scores is for policies without backspace: scores of withdrawn cells belong "
                "to no token of the result"
            )
        return backtrack(policy, source, choose, limit, once=once)
    limit = checked_limit(policy, source, limit)
    with evaluation_mode(policy):
        reader = _Reader(policy, policy.start(source))
        return run(reader, policy.vocabulary, choose, limit, keep_scores=keep_scores)


class _Reader:
    """Steps the policy."""

    def __init__(self, policy: Policy, state: State) -> None:
        self.policy, self.state = policy, state

    def read(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads what it wrote last."""
        scores, self.state = self.policy.step(self.state, inputs)
        return scores

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on."""
        self.state = self.state.select(rows)
