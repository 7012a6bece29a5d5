"""What the cells of a row read where they read what the policy wrote itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch
from freerun.policy import Policy

Few = tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]
"""The weights of a few tokens, and which they are; all others weigh nothing."""

Fed = Tensor | Few
"""What n cells read: a token each, weights over all actions each, or the weights of a few."""

Feed = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], Int[Tensor, "n"]], Fed]
"""From (scores, the rows of the batch and the cells that they are of) to what the cells after read.

Its answer for a cell depends on the scores of that cell, and on no other.
"""


def own_cells(batch: Batch, own: Bool[Tensor, "b t"]) -> Bool[Tensor, "b t"]:
    """Where `own` has an effect: not at cell 0, which reads bos, nor past the target."""
    own = own & batch.mask
    own[:, 0] = False
    return own


@dataclass(frozen=True)
class OwnInputs:
    """What own cells read; None where there are none.

    A mixture has the gradient of its weights, if there is one, and of the embeddings.
    """

    rows: Int[Tensor, "n"]
    cells: Int[Tensor, "n"]
    fed: Fed | None

    def among(
        self, policy: Policy, reference: Int[Tensor, "b t"]
    ) -> Int[Tensor, "b t"] | Float[Tensor, "b t e"]:
        """The inputs of all cells: these, and `reference` at the others."""
        if self.fed is None:
            return reference
        return put(policy, reference, (self.rows, self.cells), self.fed)


def put(
    policy: Policy, tokens: Int[Tensor, "*rows"], places: tuple[Tensor, ...], fed: Fed
) -> Int[Tensor, "*rows"] | Float[Tensor, "*rows e"]:
    """Inputs with what is `fed` at some places: tokens, or embeddings where mixtures are fed."""
    if isinstance(fed, Tensor) and not fed.is_floating_point():
        return tokens.index_put(places, fed)
    embedded = policy.embed(tokens)
    return embedded.index_put(places, _mixture(policy, fed).to(embedded.dtype))


def joined(parts: list[Tensor | tuple[Tensor, Tensor]]) -> Fed:
    """What was fed in several parts, one after another."""
    if isinstance(parts[0], Tensor):
        return torch.cat(cast("list[Tensor]", parts))
    weights, tokens = zip(*parts, strict=True)
    return torch.cat(weights), torch.cat(tokens)


def _mixture(policy: Policy, weights: Fed) -> Float[Tensor, "n e"]:
    """The mixture of embeddings; of a few tokens, only theirs are looked up."""
    if isinstance(weights, Tensor):
        return policy.embed(weights)
    few, tokens = weights
    return (few[..., None] * policy.embed(tokens)).sum(-2)
