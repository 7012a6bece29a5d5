"""One batch of outputs, written freely."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.evaluate.batches import on_device
from freerun.evaluate.decoding import GREEDY, Decoding
from freerun.policy import Policy
from freerun.rolling import Decoded, beam_search, contrastive_search, decode_by
from freerun.rolling.choices import Choose, greedily, sampling
from freerun.rolling.planted import Planting, planting
from freerun.tasks.base import Examples

Watch = Callable[[Int[Tensor, "n"], Int[Tensor, "n"]], None]
"""What is called with rows and their actions, as these are written. Rows that have ended may still
come, with actions that do not count."""


def decode(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
    limit: Int[Tensor, "n"] | None = None,
    watch: Watch | None = None,
) -> Decoded:
    """What the policy writes for a batch of sources when it runs freely.

    Args:
        policy: the model; decodes in evaluation mode.
        source: what to decode from.
        decoding: how.
        ids: names each row, where anything is drawn: a row draws the same numbers in any batch.
        limit: the most actions of each row; by default the policy's own limit.
        watch: sees actions as they are written.

    Raises:
        ValueError: where something is drawn for rows that have no ids, tokens are not written one
            by one that are to be watched, or the policy cannot be decoded so.
    """
    return attempt(policy, source, decoding, ids=ids, limit=limit, watch=watch)[0]


def attempt(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
    limit: Int[Tensor, "n"] | None = None,
    watch: Watch | None = None,
) -> tuple[Decoded, Bool[Tensor, "n u"] | None]:
    """What `decode` gives, and which of the actions are planted errors; None without noise."""
    if ids is None:
        if decoding.draws:
            raise ValueError("tokens are drawn by the ids of rows; give ids")
        ids = torch.arange(len(source.mask), device=source.mask.device)
    if watch is not None and (decoding.beam > 1 or decoding.contrastive is not None):
        raise ValueError(f"nothing can be watched of {decoding.how}")
    if decoding.beam > 1:
        size, penalty = decoding.beam, decoding.length_penalty
        return beam_search(policy, source, size=size, length_penalty=penalty, limit=limit), None
    if decoding.contrastive is not None and decoding.top_k is not None:
        k, penalty = decoding.top_k, decoding.contrastive
        return contrastive_search(policy, source, top_k=k, penalty=penalty, limit=limit), None
    choose: Choose = greedily
    if decoding.sample:
        choose = sampling(ids, decoding.seed, **decoding.truncation)
    planted: Planting | None = None
    if decoding.noise:
        words, seed = policy.vocabulary, decoding.seed
        choose = planted = planting(choose, words, rate=decoding.noise, ids=ids, seed=seed)
    if watch is not None:
        choose = _watched(choose, watch)
    found = decode_by(policy, source, choose, limit, once=not decoding.sample)
    return found, None if planted is None else planted.planted(found)


def _watched(choose: Choose, watch: Watch) -> Choose:
    """The same choice, which is told to `watch`."""

    def watched(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        tokens, log_probs = choose(scores, rows, cell)
        watch(rows, tokens)
        return tokens, log_probs

    return watched


def check_decoding(policy: Policy, examples: Examples, decoding: Decoding) -> None:
    """See that a policy can be decoded so, by the first token of the first example.

    Raises:
        ValueError: where it cannot.
    """
    if len(examples):
        batch = on_device(examples.batch([0]), policy)
        decode(policy, batch.source, decoding, ids=batch.ids, limit=torch.ones_like(batch.ids))
