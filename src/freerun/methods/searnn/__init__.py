"""SEARNN and its groups of settings."""

from freerun.methods.searnn.candidates import (
    AllTokens,
    BiasedTokens,
    Candidates,
    NeighboringTokens,
    PolicyTokens,
    TargetedTokens,
    TopTokens,
    UniformTokens,
)
from freerun.methods.searnn.cell_losses import (
    ConsistentLoss,
    InverseKLLoss,
    JSLoss,
    KLLoss,
    L2Loss,
    LLCASLoss,
    LogLoss,
    StructuredHingeLoss,
)
from freerun.methods.searnn.rolls import (
    FocusedRollOut,
    LearnedRollIn,
    LearnedRollOut,
    MixedCellsRollIn,
    MixedRollIn,
    MixedRollOut,
    ReferenceRollIn,
    ReferenceRollOut,
    RollInByCost,
)
from freerun.methods.searnn.searnn import SEARNN, SearchResult

__all__ = [
    "SEARNN",
    "AllTokens",
    "BiasedTokens",
    "Candidates",
    "ConsistentLoss",
    "FocusedRollOut",
    "InverseKLLoss",
    "JSLoss",
    "KLLoss",
    "L2Loss",
    "LLCASLoss",
    "LearnedRollIn",
    "LearnedRollOut",
    "LogLoss",
    "MixedCellsRollIn",
    "MixedRollIn",
    "MixedRollOut",
    "NeighboringTokens",
    "PolicyTokens",
    "ReferenceRollIn",
    "ReferenceRollOut",
    "RollInByCost",
    "SearchResult",
    "StructuredHingeLoss",
    "TargetedTokens",
    "TopTokens",
    "UniformTokens",
]
