"""Beam search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from freerun.batch import Source
from freerun.decoding.loop import Decoded, resolve_limit
from freerun.policy import Policy, evaluation_mode


@dataclass(frozen=True)
class Hypothesis:
    """A sequence that beam search has found.

    Attributes:
        tokens: its tokens, eos included.
        ended: whether it ended by itself; otherwise it reached its limit.
        log_prob: its log-probability.
        score: what hypotheses are ranked by: log_prob / |tokens|^length_penalty.
    """

    tokens: list[int]
    ended: bool
    log_prob: float
    score: float


@torch.no_grad()
def beam_search_n_best(
    policy: Policy,
    source: Source,
    *,
    size: int,
    count: int,
    length_penalty: float = 1.0,
    limit: Int[Tensor, "n"] | None = None,
) -> list[list[Hypothesis]]:
    """Return the `count` best hypotheses of each row, best first, of the search of `beam_search`.

    A row is searched until no live hypothesis can become one of them. Unfinished ones are returned
    only if fewer have ended. There may be fewer than `count` if there are no more sequences.

    Args:
        policy: as in `beam_search`.
        source: as in `beam_search`.
        size: as in `beam_search`.
        count: the number of hypotheses to return, at most `size`.
        length_penalty: as in `beam_search`.
        limit: as in `beam_search`.

    Raises:
        ValueError: as `beam_search`, and if `count` is below 1 or above `size`.
    """
    if not 1 <= count <= size:
        raise ValueError(f"count is {count}; it must lie in [1, {size}], the size of the beam")
    limit = _check(policy, source, size, length_penalty, limit)
    with evaluation_mode(policy):
        search = _Beam(policy, source, size, length_penalty, limit, count)
        search.run()
    return search.list_best()


@torch.no_grad()
def beam_search(
    policy: Policy,
    source: Source,
    *,
    size: int,
    length_penalty: float = 1.0,
    limit: Int[Tensor, "n"] | None = None,
) -> Decoded:
    """Return the best sequence that beam search finds with `size` hypotheses per row.

    A hypothesis y scores log p(y) / |y|^length_penalty, where |y| counts eos. Hypotheses that write
    eos among the `size` best continuations of a cell compete for the result; the `size` best of the
    others stay live. A row stops when `size` hypotheses have ended, when no live one can overtake
    the best of those, or at its limit. An unfinished hypothesis is returned only if none has ended.
    This is `early_stopping=True` of transformers' `generate`, except that there an unfinished one
    competes with those that have ended.

    Args:
        policy: the model; decodes in evaluation mode.
        source: the inputs to decode from.
        size: the number of live hypotheses per row; 1 is greedy decoding.
        length_penalty: 0 compares log-probabilities, 1 their means per token.
        limit: the maximum number of tokens of each row; by default the policy's own limit.

    Raises:
        ValueError: if `size` or a limit is below 1, the penalty is below 0, or the vocabulary has a
            backspace.
    """
    limit = _check(policy, source, size, length_penalty, limit)
    with evaluation_mode(policy):
        return _Beam(policy, source, size, length_penalty, limit).run()


def _check(
    policy: Policy,
    source: Source,
    size: int,
    length_penalty: float,
    limit: Int[Tensor, "n"] | None,
) -> Int[Tensor, "n"]:
    """Check the arguments of a search, and return the limit of each row."""
    if size < 1:
        raise ValueError(f"beam size is {size}; it must be at least 1")
    if not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty is {length_penalty}; it must be finite and at least 0")
    if policy.vocabulary.backspace is not None:
        raise ValueError(
            "beam search cannot withdraw tokens, and this vocabulary has a backspace: "
            "decode greedily or sample"
        )
    return resolve_limit(policy, source, limit)


class _Beam:
    """The hypotheses of a batch: `rows` are the sentences still searched, `size` beams each.

    `found` are those that have ended, and those at a limit, if `kept` of a row are listed.
    """

    def __init__(
        self,
        policy: Policy,
        source: Source,
        size: int,
        penalty: float,
        limit: Int[Tensor, "n"],
        kept: int = 0,
    ) -> None:
        self.policy, self.size, self.penalty, self.limit = policy, size, penalty, limit
        count, longest, device = len(limit), int(limit.max()), limit.device
        self.rows = torch.arange(count, device=device)
        self.state = policy.start(source).select(self.rows.repeat_interleave(size))
        self.written = torch.full(
            (count, size, longest), policy.vocabulary.pad, dtype=torch.long, device=device
        )
        self.inputs = torch.full((count * size,), policy.vocabulary.bos, device=device)
        # Only one beam is live at first, as all of a row are equal then.
        self.live = torch.full((count, size), -torch.inf, device=device)
        self.live[:, 0] = 0.0
        self.best = torch.full((count,), -torch.inf, device=device)
        self.best_log_prob = torch.full((count,), torch.nan, device=device)
        self.best_tokens = self.written[:, 0].clone()
        self.best_length = torch.zeros_like(limit)
        self.ended = torch.zeros_like(limit, dtype=torch.bool)
        self.count = torch.zeros_like(limit)
        self.kept = kept
        self.found: list[list[Hypothesis]] = [[] for _ in range(count)]
        self.worst_kept = torch.full((count,), -torch.inf, device=device)

    def run(self) -> Decoded:
        """Search until every row has stopped."""
        for cell in range(int(self.limit.max())):
            self._extend(cell)
            if len(self.rows) == 0:
                break
        width = int(self.best_length.max())
        return Decoded(
            self.best_tokens[:, :width], self.best_length, self.ended, self.best_log_prob
        )

    def _extend(self, cell: int) -> None:
        """Extend every hypothesis by one token."""
        scores, self.state = self.policy.step(self.state, self.inputs)
        actions = scores.shape[-1]
        log_probs = scores.float().log_softmax(-1).view(len(self.rows), self.size, actions)
        total = (self.live[..., None] + log_probs).flatten(1)
        # Twice as many as beams, because up to `size` of them may write eos.
        values, chosen = total.topk(min(2 * self.size, total.shape[1]), -1)
        if len(values[0]) < self.size:  # a tiny vocabulary: there are not enough continuations
            missing = (0, self.size - values.shape[1])
            values = F.pad(values, missing, value=-torch.inf)
            chosen = F.pad(chosen, missing)
        beam, token = chosen // actions, chosen % actions
        eos = self.policy.vocabulary.eos
        if eos is not None:
            closing = token == eos
            # Only an eos among the `size` best ends a hypothesis; the others would never be reached
            # by a search that keeps `size` of them.
            best = closing[:, : self.size]
            self._compete(values[:, : self.size].masked_fill(~best, -torch.inf), beam, cell, eos)
            self.count[self.rows] += (best & values[:, : self.size].isfinite()).sum(1)
            values = values.masked_fill(closing, -torch.inf)
        # The best continuations that do not end are the new beams, in this order.
        self.live, kept = values.topk(self.size, -1)
        beam, token = beam.gather(1, kept), token.gather(1, kept)
        index = torch.arange(len(self.rows), device=beam.device)[:, None]
        self.written = self.written[index, beam]
        self.written[:, :, cell] = token
        self.inputs = token.flatten()
        self.state = self.state.select((index * self.size + beam).flatten())
        self._drop_rows(cell)

    def _compete(
        self, log_prob: Float[Tensor, "r k"], beam: Int[Tensor, "r m"], cell: int, token: int | None
    ) -> None:
        """Let hypotheses that end at `cell` by writing `token` compete for the result.

        Without a token, unfinished hypotheses compete, in rows at their limit.
        """
        if self.kept:
            self._collect(log_prob, beam, cell, token)
        value, candidate = (log_prob / (cell + 1) ** self.penalty).max(1)
        # Strictly greater, so that of equal ones, the one that ended first stays.
        better = value > self.best[self.rows]
        if token is None and self.policy.vocabulary.eos is not None:
            better &= (self.limit[self.rows] == cell + 1) & ~self.ended[self.rows]
        elif token is None:
            better &= self.limit[self.rows] == cell + 1
        here = better.nonzero()[:, 0]
        rows, candidate = self.rows[here], candidate[here]
        self.best[rows] = value[here]
        self.best_log_prob[rows] = log_prob[here, candidate]
        self.best_tokens[rows] = self.written[here, beam[here, candidate]]
        if token is not None:
            self.best_tokens[rows, cell] = token
        self.best_length[rows] = cell + 1
        self.ended[rows] = token is not None or self.policy.vocabulary.eos is None

    def _collect(
        self, log_prob: Float[Tensor, "r k"], beam: Int[Tensor, "r m"], cell: int, token: int | None
    ) -> None:
        """Collect hypotheses that end at `cell`, or live ones in rows at their limit."""
        there = log_prob.isfinite()
        if token is None:
            there = there & (self.limit[self.rows] == cell + 1)[:, None]
        ended = token is not None or self.policy.vocabulary.eos is None
        for i, j in there.nonzero().tolist():
            row, value = int(self.rows[i]), float(log_prob[i, j])
            last = [] if token is None else [token]
            tokens = self.written[i, beam[i, j], : cell + 1 - len(last)].tolist() + last
            score = value / (cell + 1) ** self.penalty
            self.found[row].append(Hypothesis(tokens, ended, value, score))
            # Only the best that ended can keep a live one from being searched further.
            scores = sorted((h.score for h in self.found[row] if h.ended), reverse=True)
            if len(scores) >= self.kept:
                self.worst_kept[row] = scores[self.kept - 1]

    def list_best(self) -> list[list[Hypothesis]]:
        """Return the hypotheses that are kept of every row, best first; unfinished ones last."""
        return [
            sorted(row, key=lambda h: (not h.ended, -h.score))[: self.kept] for row in self.found
        ]

    def _drop_rows(self, cell: int) -> None:
        """Drop rows at their limit, with enough hypotheses, or whose live ones cannot win."""
        beams = torch.arange(self.size, device=self.live.device)
        self._compete(self.live, beams.expand_as(self.live), cell, None)
        limit = self.limit[self.rows]
        # An upper bound: log-probabilities only fall, and the largest divisor helps them most.
        bound = self.live.amax(1) / limit**self.penalty
        enough = self.worst_kept if self.kept else self.best
        going = (limit > cell + 1) & (bound > enough[self.rows])
        going &= self.count[self.rows] < self.size
        stay = going.nonzero()[:, 0]
        if len(stay) < len(self.rows):
            flat = (stay[:, None] * self.size + beams).flatten()
            self.rows, self.live = self.rows[stay], self.live[stay]
            self.written, self.inputs = self.written[stay], self.inputs[flat]
            self.state = self.state.select(flat)
