"""The choice of the loss of a cell: dataclasses over `freerun.losses.cell_losses`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from freerun.losses import CELL_LOSSES
from freerun.losses.cell_losses import check_alpha

Ties = Callable[[], Float[Tensor, "n k"]]
"""Draws a number for each token, which decides between tokens of minimum cost."""


@dataclass(frozen=True)
class NamedLoss:
    """The base of cell losses: the function with their name, called with the fields as options."""

    name: ClassVar[str]
    breaks_ties: ClassVar[bool] = False

    def compute(
        self,
        scores: Float[Tensor, "n k"],
        costs: Float[Tensor, "n k"],
        mask: Bool[Tensor, "n k"],
        ties: Ties,
    ) -> Float[Tensor, "n"]:
        """Compute the loss of each cell."""
        options: dict[str, float | Tensor] = dict(vars(self))
        if self.breaks_ties:
            options["ties"] = ties()
        return CELL_LOSSES[self.name](scores, costs, mask, **options)


@dataclass(frozen=True)
class LogLoss(NamedLoss):
    """The log loss of the best token; ties between best tokens are broken."""

    name: ClassVar[str] = "ll"
    breaks_ties: ClassVar[bool] = True


@dataclass(frozen=True)
class ConsistentLoss(NamedLoss):
    """The cost-sensitive loss of Lee, Lin, Wahba 2004."""

    name: ClassVar[str] = "consistent"


@dataclass(frozen=True)
class ScaledLoss(NamedLoss):
    """The base of losses that multiply costs by α.

    Args:
        alpha: the factor α of costs; finite and above 0. With costs in [0, 1] it is often in
            the hundreds.
    """

    alpha: float = 100.0

    def __post_init__(self) -> None:
        """Check the range."""
        check_alpha(self.alpha)


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
class LLCASLoss(ScaledLoss):
    """The log loss of the best token by cost-augmented scores; ties are broken."""

    name: ClassVar[str] = "llcas"
    breaks_ties: ClassVar[bool] = True


@dataclass(frozen=True)
class StructuredHingeLoss(ScaledLoss):
    """The structured hinge loss; ties between best tokens are broken."""

    name: ClassVar[str] = "structured_hinge"
    breaks_ties: ClassVar[bool] = True


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
