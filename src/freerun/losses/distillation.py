"""Losses of distillation, as functions of the scores of student and teacher."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from freerun.arguments import check_number, check_shapes
from freerun.losses.cell_losses import expectation


def generalized_jsd(
    student: Float[Tensor, "n a"], teacher: Float[Tensor, "n a"], *, beta: float
) -> Float[Tensor, "n"]:
    """Compute JSD_β(t ‖ s) = β·KL(t ‖ m) + (1-β)·KL(s ‖ m), where m = β·t + (1-β)·s.

    Agarwal et al. 2024, arXiv 2306.13649, equation 1. It vanishes as β goes to 0 or 1; there it is
    the divergence that its gradient then approaches, up to a factor: KL(t ‖ s) with β = 0, and
    KL(s ‖ t) with β = 1. At least 0; 0 where both are equal.

    Args:
        student: unnormalized scores of the student.
        teacher: unnormalized scores of the teacher, without gradient.
        beta: β in [0, 1].

    Raises:
        ValueError: if shapes do not match, or β is out of range.
    """
    check_shapes(student=(student, "float n a"), teacher=(teacher, "float n a"))
    check_number("beta", beta, 0, 1)
    # Half precision has too few digits for a sum over tokens.
    ours = student.to(torch.promote_types(student.dtype, torch.float32)).log_softmax(-1)
    theirs = teacher.detach().to(ours.dtype).log_softmax(-1)
    if beta == 0:
        return expectation(theirs.exp(), theirs - ours)
    if beta == 1:
        return expectation(ours.exp(), ours - theirs)
    wanted, probs = theirs.exp(), ours.exp()
    # The logarithm of a sum of nothing has no gradient.
    neither = (probs == 0) & (wanted == 0)
    ours, theirs = ours.masked_fill(neither, 0), theirs.masked_fill(neither, 0)
    mixture = torch.logaddexp(theirs + math.log(beta), ours + math.log1p(-beta))
    forward = expectation(wanted, theirs - mixture)
    return beta * forward + (1 - beta) * expectation(probs, ours - mixture)
