"""The choice of the cells to search, and of the tokens to try there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.chunks import split_chunks
from freerun.methods.base import Clock, check_range
from freerun.methods.searnn.search import Search
from freerun.policy import Trace
from freerun.randomness import Coordinate, gumbel, uniform
from freerun.settings import SETTING_NAME
from freerun.trajectories import Trajectories

MaskedTokens = tuple[Int[Tensor, "m k"], Bool[Tensor, "m k"]]
"""The tokens of each cell, and which of them count; no token counts twice."""


@dataclass(frozen=True)
class Cells:
    """The cells that are searched, with the values that a choice of tokens may need.

    Attributes:
        mask: true on the cells.
        search: the batch that they are part of.
        roll_in: the prefixes.
        trace: the roll-in as the policy read it.
        clock: the progress of training.
    """

    mask: Bool[Tensor, "b t"]
    search: Search
    roll_in: Trajectories
    trace: Trace
    clock: Clock

    @property
    def rows(self) -> Int[Tensor, "m"]:
        """The row of each cell."""
        return self.mask.nonzero()[:, 0]

    @property
    def positions(self) -> Int[Tensor, "m"]:
        """The position of each cell in its row."""
        return self.mask.nonzero()[:, 1]

    @property
    def actions(self) -> int:
        """The number of tokens in the vocabulary."""
        return self.search.policy.vocabulary.actions

    @property
    def reference(self) -> Int[Tensor, "m"]:
        """The token that the reference policy would write at each cell."""
        rows = self.rows
        return self.search.next_token(self.roll_in.tokens[rows], self.positions, rows)

    @property
    def ids(self) -> Int[Tensor, "m"]:
        """The number of the example of each cell."""
        return self.search.batch.ids[self.rows]

    @property
    def names(self) -> tuple[Coordinate, ...]:
        """The names of the random numbers of all cells; those of each are `ids` and `positions`."""
        return self.clock.seed, "tokens", self.clock.step

    def choose(
        self, function: Callable[..., MaskedTokens], *more: Int[Tensor, "m ..."]
    ) -> MaskedTokens:
        """Choose the tokens of each cell from its scores, a few cells at a time.

        Args:
            function: from the scores of any cells, and `more` of the same cells, to their tokens.
            more: what else the choice depends on at each cell.
        """
        parts = [
            function(scores, *(each[chunk] for each in more))
            for chunk, scores in self.trace.logits_in_chunks(self.mask)
        ]
        return _join(parts)


@dataclass(frozen=True)
class AllTokens:
    """All tokens of the vocabulary."""

    name: ClassVar[str] = "all"
    uses_reference: ClassVar[bool] = False

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        every = torch.arange(cells.actions, device=cells.mask.device)
        tokens = every.expand(len(cells.rows), -1)
        return tokens, torch.ones_like(tokens, dtype=torch.bool)


@dataclass(frozen=True)
class SomeTokens:
    """The base of choices of a few tokens, all different, of which the reference token is one.

    The reference token is the one that the reference policy writes after the actual prefix; no
    other token is always tried, not even eos. The code of SEARNN's authors always tries the
    target's token at the position of the cell, and eos if lengths are free, and draws with
    replacement.

    Args:
        tokens: the maximum number of tokens of a cell, including the reference token; at least 1.
    """

    uses_reference: ClassVar[bool] = True

    tokens: int

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("tokens", self.tokens, 1)


@dataclass(frozen=True)
class UniformTokens(SomeTokens):
    """Tokens that are drawn with equal probabilities."""

    name: ClassVar[str] = "uniform"

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        draw = partial(_uniform_tokens, actions=cells.actions, count=self.tokens, names=cells.names)
        where = cells.reference, cells.ids, cells.positions
        chunks = split_chunks(len(where[0]), cells.actions)
        parts = [draw(*(each[chunk] for each in where)) for chunk in chunks]
        return _join(parts)


@dataclass(frozen=True)
class PolicyTokens(SomeTokens):
    """Tokens that are drawn with the probabilities of the policy."""

    name: ClassVar[str] = "policy"

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        draw = partial(_draw_tokens, count=self.tokens, power=1.0, names=cells.names)
        return cells.choose(draw, cells.reference, cells.ids, cells.positions)


@dataclass(frozen=True)
class BiasedTokens(SomeTokens):
    """Tokens that are drawn in proportion to p^b, which favors improbable ones.

    Args:
        bias: the exponent b, in [0, 1).
    """

    name: ClassVar[str] = "biased"

    bias: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        if not 0 <= self.bias < 1:
            raise ValueError(f"bias is {self.bias}; it must lie in [0, 1)")

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        draw = partial(_draw_tokens, count=self.tokens, power=self.bias, names=cells.names)
        return cells.choose(draw, cells.reference, cells.ids, cells.positions)


@dataclass(frozen=True)
class TopTokens(SomeTokens):
    """The most probable tokens.

    Ties are broken as by `torch.topk`.
    """

    name: ClassVar[str] = "top_k"

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        return cells.choose(partial(_best_tokens, count=self.tokens), cells.reference)


@dataclass(frozen=True)
class NeighboringTokens(SomeTokens):
    """The most probable tokens, and tokens of the target near the cell.

    Args:
        neighbors: the number of tokens that are taken from the target near the cell, including the
            reference token; at least 1, and below `tokens`.
    """

    name: ClassVar[str] = "neighbors"

    neighbors: int = 10

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("neighbors", self.neighbors, 1)
        if self.neighbors >= self.tokens:
            raise ValueError(
                f"neighbors is {self.neighbors}; it must be below tokens, of which they are a part"
            )

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        batch, rows = cells.search.batch, cells.rows
        choose = partial(_neighboring_tokens, count=self.tokens, neighbors=self.neighbors)
        more = batch.target[rows], batch.lengths[rows], cells.positions
        return cells.choose(choose, cells.reference, *more)


@dataclass(frozen=True)
class TargetedTokens(SomeTokens):
    """Those of the most probable tokens whose probability is near that of the best.

    Goodman, Vlachos, Naradowsky 2016.

    Args:
        gap: the maximum difference of their probability to that of the best token, in [0, 1].
    """

    name: ClassVar[str] = "targeted"

    gap: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("gap", self.gap, 0, 1)

    def choose(self, cells: Cells) -> MaskedTokens:
        """Return the tokens to try at each cell."""
        choose = partial(_targeted_tokens, count=self.tokens, gap=self.gap)
        return cells.choose(choose, cells.reference)


TokenChoice = (
    AllTokens
    | UniformTokens
    | PolicyTokens
    | BiasedTokens
    | TopTokens
    | NeighboringTokens
    | TargetedTokens
)
"""Which tokens are tried at a cell."""


@dataclass(frozen=True)
class Candidates:
    """The cells to search and the tokens to try there.

    Args:
        cells: the maximum number of cells of a sentence that are searched, drawn without
            replacement; by default all. Their losses are weighted to account for the others. No
            cell is always among them; the code of SEARNN's authors always adds the last one if
            lengths are free.
        tokens: which tokens are tried at a cell; the reference token always is.
    """

    cells: int | None = None
    tokens: TokenChoice = field(default=AllTokens(), metadata={SETTING_NAME: "token_choice"})

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("cells", self.cells, 1)

    def choose_cells(
        self, mask: Bool[Tensor, "b t"], ids: Int[Tensor, "b"], clock: Clock
    ) -> Bool[Tensor, "b t"]:
        """Return the cells to search.

        Args:
            mask: the existing cells, from the left.
            ids: the numbers of the examples.
            clock: the progress of training.
        """
        if self.cells is None:
            return mask
        cells = torch.arange(mask.shape[1], device=mask.device)
        drawn = uniform(clock.seed, "cells", clock.step, ids[:, None], cells)
        rank = drawn.masked_fill(~mask, torch.inf).argsort(stable=True, dim=1).argsort(1)
        return mask & (rank < self.cells)


def _uniform_tokens(
    reference: Int[Tensor, "m"],
    ids: Int[Tensor, "m"],
    positions: Int[Tensor, "m"],
    *,
    actions: int,
    count: int,
    names: tuple[Coordinate, ...],
) -> MaskedTokens:
    """Draw `count` different tokens for each cell uniformly, the reference among them.

    Args:
        reference: the reference token, which is always tried.
        ids: the numbers of the examples, which name the draw with `positions` and `names`.
        positions: the position of each cell.
        actions: how many tokens there are.
        count: how many tokens, the reference included.
        names: the names of the draw.
    """
    numbers = torch.arange(actions, device=reference.device)
    drawn = uniform(*names, ids[:, None], positions[:, None], numbers)
    return _best_tokens(drawn, reference, count)


def _draw_tokens(
    scores: Float[Tensor, "m a"],
    reference: Int[Tensor, "m"],
    ids: Int[Tensor, "m"],
    positions: Int[Tensor, "m"],
    *,
    count: int,
    power: float,
    names: tuple[Coordinate, ...],
) -> MaskedTokens:
    """Draw `count` tokens for each cell without replacement, the reference among them.

    Drawn by q ∝ p^power, p = softmax(scores), as the largest of log q plus Gumbel noise; a power
    below 1 raises the share of improbable tokens.

    Args:
        scores: the policy's scores.
        reference: the reference token, which is always tried.
        ids: the numbers of the examples, which name the draw with `positions` and `names`.
        positions: the position of each cell.
        count: how many tokens, the reference included.
        power: the exponent; 1 draws from the policy.
        names: the names of the draw.
    """
    numbers = torch.arange(scores.shape[1], device=scores.device)
    noise = gumbel(*names, ids[:, None], positions[:, None], numbers)
    return _best_tokens(scores.float() * power + noise, reference, count)


def _best_tokens(
    scores: Float[Tensor, "m a"], reference: Int[Tensor, "m"], count: int
) -> MaskedTokens:
    """Return the `count` tokens with the largest scores, the reference among them."""
    raised = scores.scatter(1, reference[:, None], torch.inf)
    tokens = raised.topk(min(count, scores.shape[1]), -1).indices
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def _targeted_tokens(
    scores: Float[Tensor, "m a"], reference: Int[Tensor, "m"], count: int, gap: float
) -> MaskedTokens:
    """Return those of the best `count` tokens that the policy might take, and the reference.

    A token might be taken if its probability is at most `gap` below that of the best.
    """
    tokens, _ = _best_tokens(scores, reference, count)
    probabilities = scores.float().softmax(-1)
    least = probabilities.amax(-1, keepdim=True) - gap
    likely = probabilities.gather(1, tokens) >= least
    return tokens, likely | (tokens == reference[:, None])


def _neighboring_tokens(
    scores: Float[Tensor, "m a"],
    reference: Int[Tensor, "m"],
    targets: Int[Tensor, "m t"],
    lengths: Int[Tensor, "m"],
    cells: Int[Tensor, "m"],
    count: int,
    neighbors: int,
) -> MaskedTokens:
    """Return the best tokens, and target tokens near the cell, as after a skip or repetition.

    As in the translation experiments of Leblond et al. 2018: of `count` tokens, `neighbors` are the
    reference token and the tokens of the target nearest to the cell, the others the best by score.

    Args:
        scores: the policy's scores.
        reference: the reference token.
        targets: the target of each cell's sentence, eos included.
        lengths: its length.
        cells: the position of each cell.
        count: the maximum number of tokens.
        neighbors: the number of them that are the target's.
    """
    steps = torch.arange(1, neighbors + 1, device=cells.device)
    offsets = torch.stack([steps, -steps], 1).flatten()[: neighbors - 1]
    near = cells[:, None] + offsets
    inside = (near >= 0) & (near < lengths[:, None])
    near = targets.gather(1, near.clamp(min=0, max=targets.shape[1] - 1))
    near = torch.where(inside, near, reference[:, None])
    best = scores.topk(min(count - neighbors, scores.shape[1]), -1).indices
    tokens = torch.cat([reference[:, None], near, best], 1)
    counts = torch.cat(
        [torch.ones_like(tokens[:, :1]).bool(), inside, torch.ones_like(best).bool()], 1
    )
    return tokens, counts & ~_repeats(tokens, counts)


def _join(parts: list[tuple[Tensor, Tensor]]) -> MaskedTokens:
    """Return the tokens of all cells, given those of some at a time."""
    tokens, mask = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(mask)


def _repeats(tokens: Int[Tensor, "m k"], counts: Bool[Tensor, "m k"]) -> Bool[Tensor, "m k"]:
    """Return whether the same token is already counted further left."""
    same = (tokens[:, :, None] == tokens[:, None, :]) & counts[:, None, :]
    return same.tril(-1).any(-1)
