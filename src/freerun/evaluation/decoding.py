"""Settings of decoding, and decoding of one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.data import Examples
from freerun.decoding import (
    Decoded,
    NoisySampler,
    Sampler,
    beam_search,
    check_truncation,
    choose_greedily,
    contrastive_search,
    decode_with,
    make_sampler,
)
from freerun.policy import Policy
from freerun.settings import check_seed

MAX_CANDIDATES = 1024
"""The maximum number of hypotheses of a beam, and of tokens that contrastive search reads."""


def batches_by_length(examples: Examples, batch_size: int) -> list[list[int]]:
    """Group examples of similar length, so that decoding takes fewer steps.

    Returns:
        The numbers of the examples of each batch, those with the longest references first.
    """
    lengths = [len(reference) for reference in examples.references]
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def on_device(batch: Batch, policy: Policy) -> Batch:
    """Move a batch to the device of the policy."""
    return Batch.from_tensors(
        {name: value.to(policy.device) for name, value in batch.tensors().items()}
    )


MAX_PENALTY = 10
"""With larger ones, powers of lengths overflow or dominate the score."""


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding; the default is greedy decoding.

    Args:
        beam: the number of hypotheses kept for each sentence, at most 1024; 1 for no beam search.
        length_penalty: a hypothesis y of a beam scores log p(y) / |y|^length_penalty: 0 compares
            log-probabilities, 1 their means per token.
        sample: draw every token from the model's distribution.
        temperature: divides the scores before sampling.
        top_k: sample, or search contrastively, only among the k best tokens; in contrastive search
            at most 1024. Ties are broken as by `torch.topk`.
        top_p: sample from the smallest set of best tokens with at least this probability.
        contrastive: penalty λ in [0, 1] of contrastive search among the `top_k` best tokens; the
            score of a token is (1-λ) times its probability minus λ times its maximum similarity to
            the previous tokens (Su et al. 2022, arXiv 2202.06417).
        noise: the probability that a token is replaced by a wrong one, to test how the model
            recovers from errors.
        seed: the seed of samples and noise; the draws of an example do not depend on the batch.

    Raises:
        ValueError: if a setting is out of range or has no effect, or two exclude each other.
    """

    beam: int = 1
    length_penalty: float = 1.0
    sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    contrastive: float | None = None
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges and combinations of settings."""
        if not 1 <= self.beam <= MAX_CANDIDATES:
            raise ValueError(f"beam is {self.beam}; it must lie in [1, {MAX_CANDIDATES}]")
        if not 0 <= self.length_penalty <= MAX_PENALTY:
            raise ValueError(
                f"length_penalty is {self.length_penalty}; it must lie in [0, {MAX_PENALTY}]"
            )
        if self.contrastive is not None and not 0 <= self.contrastive <= 1:
            raise ValueError(f"contrastive is {self.contrastive}; it must lie in [0, 1]")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise is {self.noise}; it must lie in [0, 1]")
        check_seed(self.seed)
        check_truncation(**self.truncation)
        ways = {
            "beam": self.beam > 1,
            "sample": self.sample,
            "contrastive": self.contrastive is not None,
        }
        chosen = [name for name, asked in ways.items() if asked]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other; choose one")
        if self.contrastive is not None and self.top_k is None:
            raise ValueError("contrastive needs top_k, the number of tokens to choose among")
        if self.contrastive is not None and (self.top_k or 0) > MAX_CANDIDATES:
            raise ValueError(
                f"top_k is {self.top_k}; contrastive search reads each of these tokens: it must be "
                f"at most {MAX_CANDIDATES}"
            )
        if self.noise and chosen not in ([], ["sample"]):
            raise ValueError(
                f"noise and {chosen[0]} exclude each other; errors are planted where tokens are "
                "chosen one by one: greedily, or by sample"
            )
        self._check_effects()

    def _check_effects(self) -> None:
        """Check that every setting that was given has an effect."""
        if self.beam == 1 and self.length_penalty != 1.0:
            raise ValueError("length_penalty has no effect on greedy decoding; set beam above 1")
        for name, effective, instead in (
            ("temperature", self.sample, "sample"),
            ("top_k", self.sample or self.contrastive is not None, "sample or contrastive"),
            ("top_p", self.sample, "sample"),
            ("seed", self.draws, "sample or noise"),
        ):
            if not effective and getattr(self, name) != getattr(type(self), name):
                raise ValueError(f"{name} has no effect on its own; set {instead}")

    @property
    def truncation(self) -> dict[str, Any]:
        """The truncation and temperature of the distribution of samples."""
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}

    @property
    def by_token(self) -> bool:
        """Whether tokens are chosen one by one, by the scores of a single row."""
        return self.beam == 1 and self.contrastive is None

    @property
    def draws(self) -> bool:
        """Whether decoding is random."""
        return self.sample or self.noise > 0

    @property
    def how(self) -> str:
        """A description in words."""
        said: str = "greedy"
        details: list[str] = []
        if self.beam > 1:
            said = f"beam {self.beam}"
        if self.contrastive is not None:
            said, details = "contrastive search", [f"penalty {self.contrastive:g}"]
        if self.sample:
            said = "sampling"
            details = [f"temperature {self.temperature:g}"] if self.temperature != 1 else []
        details += [] if self.top_k is None else [f"top-k {self.top_k}"]
        details += [] if self.top_p == 1 else [f"top-p {self.top_p:g}"]
        details += [f"errors planted at a rate of {self.noise:g}"] if self.noise else []
        details += [f"seed {self.seed}"] if self.draws else []
        if not details:
            return said
        said = "greedy decoding" if said == "greedy" else said
        return f"{said} ({', '.join(details)})"


GREEDY = Decoding()
"""Greedy decoding, the default everywhere."""


Watch = Callable[[Float[Tensor, "n a"], Int[Tensor, "n"], int, Int[Tensor, "n"]], None]
"""A function that is called at every cell with the scores, the rows they belong to, the cell, and
the actions that are written. Rows may have ended; their actions do not count."""


def decode(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
    limit: Int[Tensor, "n"] | None = None,
    watch: Watch | None = None,
) -> Decoded:
    """Decode a batch of sources freely.

    Args:
        policy: the policy, which decodes in evaluation mode.
        source: the sources.
        decoding: how to decode.
        ids: the number of each row in the data set, if anything is random: a row draws the same
            numbers in any batch.
        limit: the maximum number of actions of each row; by default that of the policy.
        watch: a function that is called with the actions as they are written.

    Raises:
        ValueError: if anything is random and there are no ids, if `watch` is given and tokens are
            not written one by one, or if the policy does not support this decoding.
    """
    return decode_with_errors(policy, source, decoding, ids=ids, limit=limit, watch=watch)[0]


def decode_with_errors(
    policy: Policy,
    source: Source,
    decoding: Decoding = GREEDY,
    *,
    ids: Int[Tensor, "n"] | None = None,
    limit: Int[Tensor, "n"] | None = None,
    watch: Watch | None = None,
) -> tuple[Decoded, Bool[Tensor, "n u"] | None]:
    """Return what `decode` returns, and which actions are planted errors; None without noise."""
    if ids is None:
        if decoding.draws:
            raise ValueError("tokens are drawn by the ids of rows; give ids")
        ids = torch.arange(len(source.mask), device=source.mask.device)
    if watch is not None and not decoding.by_token:
        raise ValueError(f"nothing can be watched of {decoding.how}")
    if decoding.beam > 1:
        size, penalty = decoding.beam, decoding.length_penalty
        return beam_search(policy, source, size=size, length_penalty=penalty, limit=limit), None
    if decoding.contrastive is not None and decoding.top_k is not None:
        k, penalty = decoding.top_k, decoding.contrastive
        return contrastive_search(policy, source, top_k=k, penalty=penalty, limit=limit), None
    choose: Sampler = choose_greedily
    if decoding.sample:
        choose = make_sampler(ids, decoding.seed, **decoding.truncation)
    noisy: NoisySampler | None = None
    if decoding.noise:
        words, seed = policy.vocabulary, decoding.seed
        choose = noisy = NoisySampler(choose, words, rate=decoding.noise, ids=ids, seed=seed)
    if watch is not None:
        choose = _watch_choices(choose, watch)
    found = decode_with(policy, source, choose, limit, forbid_repeats=not decoding.sample)
    return found, None if noisy is None else noisy.find_errors(found)


def _watch_choices(choose: Sampler, watch: Watch) -> Sampler:
    """Return a function that makes the same choices, and calls `watch` with them."""

    def choose_and_tell(
        scores: Float[Tensor, "n a"], rows: Int[Tensor, "n"], cell: int
    ) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
        tokens, log_probs = choose(scores, rows, cell)
        watch(scores, rows, cell, tokens)
        return tokens, log_probs

    return choose_and_tell


def check_decoding(policy: Policy, examples: Examples, decoding: Decoding) -> None:
    """Check that a policy supports this decoding, by writing one token of the first example.

    Raises:
        ValueError: if it cannot.
    """
    if len(examples):
        batch = on_device(examples.batch([0]), policy)
        decode(policy, batch.source, decoding, ids=batch.ids, limit=torch.ones_like(batch.ids))
