"""What was written, and the loop that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.decoding.choices import Choose, precise
from freerun.policy import Policy
from freerun.vocabulary import Vocabulary

LOOK = {"cpu": 1}
"""After how many cells it is looked which rows have ended; elsewhere, where to look is to wait for
the device, after 8."""


@dataclass(frozen=True)
class Decoded:
    """What was written.

    Attributes:
        tokens: the tokens of every row, eos included; `pad` after the end. Where tokens may be
            withdrawn, those that remain.
        lengths: how many tokens each row has, eos included.
        ended: whether a row ended by itself: by eos or, without one, at its exact length.
        log_probs: the log-probability of each row under the distribution it was drawn from: of all
            its actions.
        scores: the scores at every cell, zero after the end; only where asked for.
        actions: all that each row did, tokens, backspaces and eos; `pad` after the end. None where
            the vocabulary has no backspace.
        action_lengths: how many actions each row took; None where the vocabulary has no backspace.
    """

    tokens: Int[Tensor, "n t"]
    lengths: Int[Tensor, "n"]
    ended: Bool[Tensor, "n"]
    log_probs: Float[Tensor, "n"]
    scores: Float[Tensor, "n t a"] | None = None
    actions: Int[Tensor, "n u"] | None = None
    action_lengths: Int[Tensor, "n"] | None = None

    @property
    def taken(self) -> tuple[Int[Tensor, "n u"], Bool[Tensor, "n u"]]:
        """All that each row did, and where it lies: actions, or tokens where there are none."""
        taken, lengths = self.actions, self.action_lengths
        if taken is None or lengths is None:
            taken, lengths = self.tokens, self.lengths
        return taken, torch.arange(taken.shape[1], device=taken.device) < lengths[:, None]

    def lists(self, eos: int | None) -> list[list[int]]:
        """The tokens of every row, without its closing eos."""
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)
        written = [tokens[:length] for tokens, length in rows]
        return [row[:-1] if eos is not None and row[-1:] == [eos] else row for row in written]


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


@runtime_checkable
class Reader(Protocol):
    """What the loop needs of rows that write."""

    def read(self, inputs: Int[Tensor, "n"]) -> Float[Tensor, "n a"]:
        """Each row reads what it wrote last, bos at first: the scores of what comes next."""
        ...

    def keep(self, rows: Int[Tensor, "k"]) -> None:
        """Let only `rows` go on, in this order."""
        ...


def run(
    reader: Reader,
    vocabulary: Vocabulary,
    choose: Choose,
    limit: Int[Tensor, "n"],
    *,
    keep_scores: bool = False,
) -> Decoded:
    """Write by `choose` until every row has ended or reached its limit.

    Ended rows stay in the batch, unheard, until they are a quarter of it: to pick rows costs as
    much as a step.
    """
    count, longest, device = len(limit), int(limit.max()), limit.device
    tokens = torch.full((count, longest), vocabulary.pad, device=device)
    log_probs = torch.empty(count, device=device)
    kept: list[Tensor] = []
    rows = torch.arange(count, device=device)
    inputs = torch.full_like(rows, vocabulary.bos)
    gained = torch.zeros(count, device=device)
    live, room = torch.ones_like(rows, dtype=torch.bool), limit
    for cell in range(longest):
        scores = precise(reader.read(inputs))
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
            rows, inputs = rows[stay], inputs[stay]
            room, gained, live = room[stay], gained[stay], live[stay]
            reader.keep(stay)
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
