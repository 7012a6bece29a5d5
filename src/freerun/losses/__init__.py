"""Losses as pure functions of scores and targets or costs, usable in any training loop."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from freerun.losses.cell_losses import (
    consistent,
    inverse_kl,
    js,
    kl,
    l2,
    ll,
    llcas,
    structured_hinge,
    target_distribution,
)
from freerun.losses.distillation import generalized_jsd
from freerun.losses.divergences import Divergence, outside_domain, psi
from freerun.losses.likelihood import (
    log_loss,
    repeated_ngrams,
    sequence_unlikelihood,
    token_unlikelihood,
)
from freerun.losses.samples import leave_one_out, minimum_risk, policy_gradient
from freerun.losses.sequence_match import ScoredActions, behavior_cloning_loss, sequence_match_loss

CELL_LOSSES: dict[str, Callable[..., Tensor]] = {
    "ll": ll,
    "kl": kl,
    "inverse_kl": inverse_kl,
    "js": js,
    "llcas": llcas,
    "structured_hinge": structured_hinge,
    "consistent": consistent,
    "l2": l2,
}
"""The losses of a cell by name: each is a function of scores, costs and a mask, and its options."""

__all__ = [
    "CELL_LOSSES",
    "Divergence",
    "ScoredActions",
    "behavior_cloning_loss",
    "consistent",
    "generalized_jsd",
    "inverse_kl",
    "js",
    "kl",
    "l2",
    "leave_one_out",
    "ll",
    "llcas",
    "log_loss",
    "minimum_risk",
    "outside_domain",
    "policy_gradient",
    "psi",
    "repeated_ngrams",
    "sequence_match_loss",
    "sequence_unlikelihood",
    "structured_hinge",
    "target_distribution",
    "token_unlikelihood",
]
