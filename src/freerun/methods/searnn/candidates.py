"""Which tokens are tried at a cell."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.randomness import Coordinate, gumbel, uniform

CellChoice = Literal["all", "uniform", "first", "last"]


def choose_cells(
    mask: Bool[Tensor, "b t"],
    choice: CellChoice,
    count: int | None,
    ids: Int[Tensor, "b"],
    *coordinates: Coordinate,
) -> Bool[Tensor, "b t"]:
    """The cells to search: all of `mask`, or at most `count` of each row.

    Args:
        mask: the cells there are, from the left.
        choice: `uniform` draws without replacement; `first` and `last` take those.
        count: how many of each row; not looked at for `all`.
        ids: names each row in the draw.
        coordinates: name the draw.
    """
    if choice == "all" or count is None:
        return mask
    cells = torch.arange(mask.shape[1], device=mask.device)
    if choice == "first":
        return mask & (cells < count)
    if choice == "last":
        return mask & (cells >= mask.sum(1, keepdim=True) - count)
    drawn = uniform(*coordinates, ids[:, None], cells).masked_fill(~mask, torch.inf)
    rank = drawn.argsort(stable=True, dim=1).argsort(1)
    return mask & (rank < count)


TokenChoice = Literal["all", "uniform", "policy", "biased", "top_k", "neighbours", "targeted"]

Tried = tuple[Int[Tensor, "m k"], Bool[Tensor, "m k"]]
"""Tokens of each cell, and which of them count: no token counts twice."""


def uniform_tokens(
    actions: int, reference: Int[Tensor, "m"], count: int, *coordinates: Coordinate
) -> Tried:
    """`count` different tokens of each cell, all alike likely, the reference among them.

    Args:
        actions: how many tokens there are.
        reference: the reference token, which is always tried.
        count: how many tokens, the reference included.
        coordinates: name the draw; those that are tensors have a value for each cell.
    """
    numbers = torch.arange(actions, device=reference.device)
    return best_tokens(uniform(*_by_cell(coordinates), numbers), reference, count)


def drawn_tokens(
    scores: Float[Tensor, "m a"],
    reference: Int[Tensor, "m"],
    count: int,
    power: float,
    *coordinates: Coordinate,
) -> Tried:
    """`count` different tokens of each cell, drawn without replacement, the reference among them.

    Drawn by q ∝ p^power, p = softmax(scores), as the largest of log q plus Gumbel noise; a power
    below 1 raises the share of improbable tokens.

    Args:
        scores: the policy's scores.
        reference: the reference token, which is always tried.
        count: how many tokens, the reference included.
        power: the exponent; 1 draws from the policy.
        coordinates: name the draw; those that are tensors have a value for each cell.
    """
    numbers = torch.arange(scores.shape[1], device=scores.device)
    noise = gumbel(*_by_cell(coordinates), numbers)
    return best_tokens(scores.float() * power + noise, reference, count)


def best_tokens(scores: Float[Tensor, "m a"], reference: Int[Tensor, "m"], count: int) -> Tried:
    """The `count` tokens with the largest scores, the reference among them."""
    raised = scores.scatter(1, reference[:, None], torch.inf)
    tokens = raised.topk(min(count, scores.shape[1]), -1).indices
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def targeted_tokens(
    scores: Float[Tensor, "m a"], reference: Int[Tensor, "m"], count: int, gap: float
) -> Tried:
    """Of the best `count` tokens, those that the policy might well take, and the reference.

    A token might be taken where its probability is at most `gap` below that of the best.
    """
    tokens, _ = best_tokens(scores, reference, count)
    probabilities = scores.float().softmax(-1)
    least = probabilities.amax(-1, keepdim=True) - gap
    likely = probabilities.gather(1, tokens) >= least
    return tokens, likely | (tokens == reference[:, None])


def neighbouring_tokens(
    scores: Float[Tensor, "m a"],
    reference: Int[Tensor, "m"],
    targets: Int[Tensor, "m t"],
    lengths: Int[Tensor, "m"],
    cells: Int[Tensor, "m"],
    count: int,
    neighbours: int,
) -> Tried:
    """The best tokens, and target tokens from around the cell: what skips or repeats would write.

    As in translation by Leblond et al. 2018: of `count` tokens, `neighbours` are the reference
    token and the tokens of the target nearest to the cell, the others the best by score.

    Args:
        scores: the policy's scores.
        reference: the reference token.
        targets: the target of each cell's sentence, eos included.
        lengths: its length.
        cells: where the cell stands.
        count: how many tokens at most.
        neighbours: how many of them are the target's.
    """
    steps = torch.arange(1, neighbours + 1, device=cells.device)
    offsets = torch.stack([steps, -steps], 1).flatten()[: neighbours - 1]
    near = cells[:, None] + offsets
    inside = (near >= 0) & (near < lengths[:, None])
    near = targets.gather(1, near.clamp(min=0, max=targets.shape[1] - 1))
    near = torch.where(inside, near, reference[:, None])
    best = scores.topk(min(count - neighbours, scores.shape[1]), -1).indices
    tokens = torch.cat([reference[:, None], near, best], 1)
    counts = torch.cat(
        [torch.ones_like(tokens[:, :1]).bool(), inside, torch.ones_like(best).bool()], 1
    )
    return tokens, counts & ~_repeats(tokens, counts)


def _by_cell(coordinates: tuple[Coordinate, ...]) -> list[Coordinate]:
    """Coordinates that broadcast against the tokens of every cell."""
    return [c[:, None] if isinstance(c, Tensor) else c for c in coordinates]


def _repeats(tokens: Int[Tensor, "m k"], counts: Bool[Tensor, "m k"]) -> Bool[Tensor, "m k"]:
    """Whether a token stands further left already, where it counts."""
    same = (tokens[:, :, None] == tokens[:, None, :]) & counts[:, None, :]
    return same.tril(-1).any(-1)
