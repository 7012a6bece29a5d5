"""One batch of outputs, decoded freely."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from freerun.batch import Source
from freerun.evaluate.decoding import GREEDY, Decoding
from freerun.policy import Policy
from freerun.rolling import Decoded, beam_search, greedy, sample


def decode(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
) -> Decoded:
    """What the policy writes for a batch of sources when it runs freely.

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        decoding: how.
        ids: names each row, where anything is drawn: a row draws the same numbers in any batch.

    Raises:
        ValueError: where something is drawn for rows that have no ids, or the policy cannot be
            decoded so.
    """
    return attempt(policy, source, decoding, ids=ids)[0]


def attempt(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
) -> tuple[Decoded, Bool[Tensor, "n u"] | None]:
    """What `decode` gives, and which of the actions are planted errors; None without noise."""
    if ids is None:
        if decoding.draws:
            raise ValueError("tokens are drawn by the ids of rows; give ids")
        ids = torch.arange(len(source.mask), device=source.mask.device)
    if decoding.beam > 1:
        found = beam_search(
            policy, source, size=decoding.beam, length_penalty=decoding.length_penalty
        )
        return found, None
    if decoding.sample:
        return sample(policy, source, ids=ids, seed=decoding.seed, **decoding.truncation), None
    return greedy(policy, source), None
