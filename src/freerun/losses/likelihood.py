"""The log loss of target tokens, and unlikelihood losses, which lower the probability of others.

Welleck, Kulikov, Roller, Dinan, Cho, Weston 2020, *Neural Text Generation with Unlikelihood
Training*, arXiv 1908.04319.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.arguments import check_count, check_number, check_padding, check_shapes, check_values


def log_loss(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "n"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Compute the log loss -Σ_i Σ_a q_i(a)·log softmax(s_i)(a), summed over cells.

    q puts 1-ε on the target and spreads ε = `smoothing` evenly over all tokens, the target
    included (Szegedy et al. 2016, arXiv 1512.00567, section 7). There is no ignore index: a label
    of -100 is an error.

    Args:
        scores: unnormalized scores of each cell.
        targets: the reference token of each cell.
        smoothing: ε in [0, 1).

    Raises:
        ValueError: if shapes do not match, a target is not a token id, or ε is out of range.
        RuntimeError: if a target is not a token id, and it is not on the CPU.
    """
    check_shapes(scores=(scores, "float n a"), targets=(targets, "int n"))
    _check_tokens("targets", targets, scores)
    check_number("smoothing", smoothing, 0, 1, below=True)
    # Half precision has too few digits for a sum over cells.
    log_probs = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1)
    loss = -log_probs.gather(-1, targets[:, None]).sum()
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * log_probs.mean(-1).sum()
    return loss


def token_unlikelihood(
    scores: Float[Tensor, "n a"], targets: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, ""]:
    """Compute -Σ_t Σ_{c∈C_t} log(1 - p_t(c)), where C_t is the set {y_1, …, y_{t-1}} without y_t.

    C_t is a set, so each token counts once. It does not contain tokens of the prompt, of other
    sequences, or padding, which in the authors' code it does; 1 - p is not clamped, as it is there.

    Args:
        scores: unnormalized scores of the cells that are true in `mask`, row by row.
        targets: the reference tokens.
        mask: true on targets, false on the padding that follows, which is ignored.

    Raises:
        ValueError: if shapes do not match, there are not as many rows of scores as targets, or a
            target is not a token id.
    """
    check_shapes(
        scores=(scores, "float n a"), targets=(targets, "int b t"), mask=(mask, "bool b t")
    )
    check_count("scores", scores, mask, "true value of mask")
    _check_tokens("targets", targets.where(mask, 0), scores)
    cells = mark_earlier_tokens(targets, mask)
    return masked_unlikelihood(scores, targets[mask.nonzero()[:, 0]], cells)


def mark_earlier_tokens(
    targets: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Bool[Tensor, "n t"]:
    """Return where the tokens of C_t are in the row of each target, row by row; each token once."""
    cells = torch.arange(targets.shape[1], device=targets.device)
    earlier = (cells[:, None] > cells) & mask[:, None, :]
    same = targets[:, :, None] == targets[:, None, :]
    first = ~(same & earlier).any(2)
    return (earlier & ~same & first[:, None, :])[mask]


def masked_unlikelihood(
    scores: Float[Tensor, "n a"], tokens: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]
) -> Float[Tensor, ""]:
    """Compute -Σ log(1 - p_i(x)) over the tokens x of each cell i that are true in `mask`."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    row, column = mask.nonzero(as_tuple=True)
    return -_log_without(scores, row, tokens[row, column]).sum()


def sequence_unlikelihood(
    scores: Float[Tensor, "n a"], tokens: Int[Tensor, "n"]
) -> Float[Tensor, ""]:
    """Compute -Σ_i log(1 - p_i(x_i)) over tokens whose probability should fall.

    In the paper these are the tokens of the model's own continuations that are part of a repeated
    n-gram (see `repeated_ngrams`).

    Args:
        scores: unnormalized scores of the cells where the tokens were written.
        tokens: the tokens.

    Raises:
        ValueError: if shapes do not match, or a token is not a token id.
    """
    check_shapes(scores=(scores, "float n a"), tokens=(tokens, "int n"))
    _check_tokens("tokens", tokens, scores)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return -_log_without(scores, torch.arange(len(tokens), device=tokens.device), tokens).sum()


def repeated_ngrams(
    tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], *, size: int = 4
) -> Bool[Tensor, "b t"]:
    """Return which tokens are part of an n-gram that occurred earlier in the same sequence.

    As in the authors' code, the two occurrences may overlap. The last n-gram of a sequence counts
    as well, which their code leaves out.

    Args:
        tokens: the sequences.
        mask: true on tokens, false on the padding that follows, which is ignored.
        size: n, at least 1.

    Raises:
        ValueError: if shapes do not match, padding does not follow, or size is below 1.
    """
    check_shapes(tokens=(tokens, "int b t"), mask=(mask, "bool b t"))
    check_padding("mask", mask)
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


def _check_tokens(name: str, tokens: Int[Tensor, "*n"], scores: Float[Tensor, "k a"]) -> None:
    """Check that tokens are among those that have scores."""
    most = scores.shape[1] - 1
    check_values(name, tokens, 0, most, what=", the last column of scores")


def _log_without(
    scores: Float[Tensor, "n a"], rows: Int[Tensor, "k"], tokens: Int[Tensor, "k"]
) -> Float[Tensor, "k"]:
    """Compute log(1 - p) of tokens without loss of digits, even if p is close to 1.

    Only the best token of a row can have a probability above one half. For it, 1 - p is the sum of
    the probabilities of the other tokens; for the rest, the subtraction loses no digits.
    """
    is_best = scores.argmax(-1)[rows] == tokens
    whole = scores.logsumexp(-1)[rows]
    log_probs = (scores[rows, tokens] - whole).masked_fill(is_best, -1)
    others = scores[rows[is_best]].scatter(-1, tokens[is_best, None], -math.inf).logsumexp(-1)
    found = torch.log1p(-log_probs.exp())
    return found.masked_scatter(is_best, others - whole[is_best])
