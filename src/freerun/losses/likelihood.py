"""Unlikelihood: what should not be written is made less likely.

Welleck, Kulikov, Roller, Dinan, Cho, Weston 2020, *Neural Text Generation with Unlikelihood
Training*, arXiv 1908.04319.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def log_loss(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "n"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """-Σ_i Σ_a q_i(a)·log softmax(s_i)(a), summed over cells.

    q puts 1-ε on the target and spreads ε = `smoothing` evenly over all tokens, the target
    included (Szegedy et al. 2016, arXiv 1512.00567, section 7). No target is passed over: what is
    no token, such as a label of -100, is an error.

    Args:
        scores: unnormalized scores of each cell.
        targets: the reference token of each cell.
        smoothing: ε in [0, 1).

    Raises:
        RuntimeError: where a target is no token.
    """
    # Half precision has too few digits for a sum over cells.
    log_probs = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1)
    loss = -log_probs.gather(-1, targets[:, None]).sum()
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1).sum()
    return loss


def token_unlikelihood(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """-Σ_t Σ_{c∈C_t} log(1 - p_t(c)), where C_t are the tokens before y_t of its sequence but y_t.

    Each token of C_t counts once, and what precedes the targets is ignored.

    Args:
        scores: unnormalized scores of the cells that are true in `mask`, row by row.
        targets: the reference tokens.
        mask: true on them, false on the padding that follows, which is ignored.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    cells = torch.arange(targets.shape[1], device=targets.device)
    earlier = (cells[:, None] > cells) & mask[:, None, :]
    same = targets[:, :, None] == targets[:, None, :]
    first = ~(same & earlier).any(2)
    candidates = (earlier & ~same & first[:, None, :])[mask]
    row, cell = candidates.nonzero(as_tuple=True)
    others = targets[mask.nonzero()[row, 0], cell]
    return -_log_without(scores, row, others).sum()


def sequence_unlikelihood(
    scores: Float[Tensor, "n a"], tokens: Int[Tensor, "n"]
) -> Float[Tensor, ""]:
    """-Σ_i log(1 - p_i(x_i)) over tokens that should not have been written.

    In the paper these are the tokens of the model's own continuations that `repeated_ngrams` names.

    Args:
        scores: unnormalized scores of the cells where they were written.
        tokens: what was written there.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return -_log_without(scores, torch.arange(len(tokens), device=tokens.device), tokens).sum()


def repeated_ngrams(
    tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], *, size: int = 4
) -> Bool[Tensor, "b t"]:
    """Which tokens are part of an n-gram that its sequence has had before.

    As in the authors' code, the two may overlap.

    Args:
        tokens: what was written.
        mask: true on it, false on the padding that follows, which is ignored.
        size: n, at least 1.

    Raises:
        ValueError: where size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")
    length = tokens.shape[1]
    found = torch.zeros_like(mask)
    starts = length - size + 1
    if starts < 1:
        return found
    same = tokens[:, :, None] == tokens[:, None, :]
    grams = torch.stack([same[:, i : starts + i, i : starts + i] for i in range(size)]).all(0)
    again = grams.tril(-1).any(2) & mask[:, size - 1 :]
    for i in range(size):
        found[:, i : starts + i] |= again
    return found


def _log_without(
    scores: Float[Tensor, "n a"], rows: Int[Tensor, "k"], tokens: Int[Tensor, "k"]
) -> Float[Tensor, "k"]:
    """log(1 - p) of tokens at rows, exact however near 1 p is.

    Only the best token of a row can have more than one half. For it, what the others have is
    summed; for the rest, 1 - p loses no digits.
    """
    is_best = scores.argmax(-1)[rows] == tokens
    whole = scores.logsumexp(-1)[rows]
    log_probs = (scores[rows, tokens] - whole).masked_fill(is_best, -1)
    others = scores[rows[is_best]].scatter(-1, tokens[is_best, None], -math.inf).logsumexp(-1)
    found = torch.log1p(-log_probs.exp())
    return found.masked_scatter(is_best, others - whole[is_best])
