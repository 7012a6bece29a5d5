"""The choice of the loss of a cell: dataclasses over `freerun.losses.cell_losses`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from freerun.losses import CELL_LOSSES, consistent, ll
from freerun.losses.cell_losses import check_alpha

Ties = Callable[[], Float[Tensor, "n k"]]
"""Draws a number for each token, which decides between tokens of least cost."""


@dataclass(frozen=True)
class LogLoss:
    """The log loss of the best token."""

    name: ClassVar[str] = "ll"

    def compute(
        self,
        scores: Float[Tensor, "n k"],
        costs: Float[Tensor, "n k"],
        mask: Bool[Tensor, "n k"],
        ties: Ties,
    ) -> Float[Tensor, "n"]:
        """Compute the loss of each cell."""
        return ll(scores, costs, mask, ties=ties())


@dataclass(frozen=True)
class ConsistentLoss:
    """The cost-sensitive loss of Lee, Lin, Wahba 2004."""

    name: ClassVar[str] = "consistent"

    def compute(
        self,
        scores: Float[Tensor, "n k"],
        costs: Float[Tensor, "n k"],
        mask: Bool[Tensor, "n k"],
        ties: Ties,
    ) -> Float[Tensor, "n"]:
        """Compute the loss of each cell."""
        return consistent(scores, costs, mask)


@dataclass(frozen=True)
class ScaledLoss:
    """The base of losses that multiply costs by α.

    Args:
        alpha: the factor α of costs; finite and above 0. With costs in [0, 1] it is often in
            the hundreds.
    """

    name: ClassVar[str]

    alpha: float = 100.0

    def __post_init__(self) -> None:
        """Check the range."""
        check_alpha(self.alpha)

    def compute(
        self,
        scores: Float[Tensor, "n k"],
        costs: Float[Tensor, "n k"],
        mask: Bool[Tensor, "n k"],
        ties: Ties,
    ) -> Float[Tensor, "n"]:
        """Compute the loss of each cell."""
        return CELL_LOSSES[self.name](scores, costs, mask, alpha=self.alpha)


@dataclass(frozen=True)
class KLLoss(ScaledLoss):
    """The cross entropy of the policy with P_C(a) ∝ exp(-α·c(a))."""

    name: ClassVar[str] = "kl"


@dataclass(frozen=True)
class InverseKLLoss(ScaledLoss):
    """KL(p ‖ P_C)."""

    name: ClassVar[str] = "inverse_kl"


@dataclass(frozen=True)
class JSLoss(ScaledLoss):
    """The Jensen-Shannon divergence of p and P_C."""

    name: ClassVar[str] = "js"


@dataclass(frozen=True)
class L2Loss(ScaledLoss):
    """Squared differences of scores and negative costs."""

    name: ClassVar[str] = "l2"


@dataclass(frozen=True)
class MarginLoss(ScaledLoss):
    """The base of losses with a margin to the best token; ties between best tokens are broken."""

    def compute(
        self,
        scores: Float[Tensor, "n k"],
        costs: Float[Tensor, "n k"],
        mask: Bool[Tensor, "n k"],
        ties: Ties,
    ) -> Float[Tensor, "n"]:
        """Compute the loss of each cell."""
        return CELL_LOSSES[self.name](scores, costs, mask, alpha=self.alpha, ties=ties())


@dataclass(frozen=True)
class LLCASLoss(MarginLoss):
    """The log loss of the best token by cost-augmented scores."""

    name: ClassVar[str] = "llcas"


@dataclass(frozen=True)
class StructuredHingeLoss(MarginLoss):
    """The structured hinge loss."""

    name: ClassVar[str] = "structured_hinge"


CellLoss = (
    LogLoss
    | KLLoss
    | InverseKLLoss
    | JSLoss
    | LLCASLoss
    | StructuredHingeLoss
    | ConsistentLoss
    | L2Loss
)
"""The loss of a cell."""
