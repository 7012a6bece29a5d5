"""Decoding: what a policy writes when it runs freely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.policy import Policy
from freerun.rolling.choices import (
    greedy_choice,
    precise,
    sampled_choice,
    truncated_log_probs,
)
from freerun.rolling.modes import evaluation_mode

LOOK = {"cpu": 1}
"""After how many cells it is looked which rows have ended; elsewhere, where to look is to wait for
the device, after 8."""


@dataclass(frozen=True)
class Decoded:
    """What was written.

    Attributes:
        tokens: the tokens of every row, eos included; `pad` after the end.
        lengths: how many tokens each row wrote, eos included.
        ended: whether a row ended by itself: by eos or, without one, at its exact length.
        log_probs: the log-probability of each row under the distribution it was drawn from.
        scores: the scores at every cell, zero after the end; only where asked for.
    """

    tokens: Int[Tensor, "n t"]
    lengths: Int[Tensor, "n"]
    ended: Bool[Tensor, "n"]
    log_probs: Float[Tensor, "n"]
    scores: Float[Tensor, "n t a"] | None = None

    def lists(self, eos: int | None) -> list[list[int]]:
        """The tokens of every row, without its closing eos."""
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        written = [tokens[:length] for tokens, length in rows]
        return [row[:-1] if eos is not None and row[-1:] == [eos] else row for row in written]


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

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        tokens = greedy_choice(scores)
        return tokens, scores.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]

    return decode_by(policy, source, choose, limit, keep_scores)


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

    def choose(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        log_probs = truncated_log_probs(scores, temperature=temperature, top_k=top_k, top_p=top_p)
        tokens = sampled_choice(log_probs, seed, "sample", ids[rows], cell)
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    return decode_by(policy, source, choose, limit, keep_scores)


def checked_limit(
    policy: Policy, source: Source, limit: Int[Tensor, "n"] | None
) -> Int[Tensor, "n"]:
    """The most tokens of each row: `limit`, or the policy's own.

    Raises:
        ValueError: where a limit is below 1.
    """
    limit = policy.limit(source) if limit is None else limit
    row = int(limit.argmin())
    if limit[row] < 1:
        raise ValueError(f"the limit of row {row} is {int(limit[row])}; it must be at least 1")
    return limit


Choose = Callable[
    [Float[Tensor, "n a"], Int[Tensor, "n"], int],
    tuple[Int[Tensor, "n"], Float[Tensor, "n"]],
]


@torch.no_grad()
def decode_by(
    policy: Policy,
    source: Source,
    choose: Choose,
    limit: Int[Tensor, "n"] | None = None,
    keep_scores: bool = False,
) -> Decoded:
    """Write by `choose(scores, rows, cell)`, which gives tokens and log-probabilities, to the end.

    Ended rows stay in the batch, unheard, until they are a quarter of it: to pick rows costs as
    much as a step.

    Raises:
        ValueError: where a limit is below 1.
    """
    vocabulary, device = policy.vocabulary, source.mask.device
    limit = checked_limit(policy, source, limit)
    count, longest = len(limit), int(limit.max())
    tokens = torch.full((count, longest), vocabulary.pad, device=device)
    log_probs = torch.empty(count, device=device)
    kept: list[Tensor] = []
    with evaluation_mode(policy):
        rows = torch.arange(count, device=device)
        state = policy.start(source)
        inputs = torch.full_like(rows, vocabulary.bos)
        gained = torch.zeros(count, device=device)
        live, room = torch.ones_like(rows, dtype=torch.bool), limit
        for cell in range(longest):
            scores, state = policy.step(state, inputs)
            scores = precise(scores)
            inputs, gain = choose(scores, rows, cell)
            tokens[rows, cell] = inputs
            gained = gained + gain.where(live, 0.0)
            if keep_scores:
                kept.append(scores.new_zeros(count, scores.shape[1]).index_copy(0, rows, scores))
            live = live & (room > cell + 1)
            if vocabulary.eos is not None:
                live = live & (inputs != vocabulary.eos)
            if (cell + 1) % LOOK.get(device.type, 8):
                continue
            stay = live.nonzero()[:, 0]
            if len(stay) == 0:
                break
            if 4 * len(stay) <= 3 * len(rows):
                log_probs[rows] = gained.float()
                rows, inputs, state = rows[stay], inputs[stay], state.select(stay)
                room, gained, live = room[stay], gained[stay], live[stay]
        log_probs[rows] = gained.float()
    inside, ended = _ends(tokens, limit, vocabulary.eos)
    lengths = inside.sum(1)
    inside = inside[:, : int(lengths.max())]
    tokens = tokens[:, : inside.shape[1]].where(inside, vocabulary.pad)
    every = None
    if keep_scores:
        every = torch.stack(kept[: inside.shape[1]], 1).where(inside[..., None], 0.0)
    return Decoded(tokens, lengths, ended, log_probs, every)


def _ends(
    tokens: Int[Tensor, "n t"], limit: Int[Tensor, "n"], eos: int | None
) -> tuple[Bool[Tensor, "n t"], Bool[Tensor, "n"]]:
    """Which tokens a row wrote before it was done, eos included; and whether it ended by itself."""
    inside = torch.arange(tokens.shape[1], device=tokens.device) < limit[:, None]
    if eos is None:
        return inside, torch.ones_like(limit, dtype=torch.bool)
    closing = (tokens == eos) & inside
    return inside & (closing.cumsum(1) - closing.long() == 0), closing.any(1)
