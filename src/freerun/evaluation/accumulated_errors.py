"""Measure how the errors of a model accumulate, as judged by an oracle that knows the right odds.

For open-ended text no cost says which next token is an error. An oracle does: the exact
distribution of synthetic data, or a stronger model with the same tokens. An error is then a
divergence of the model from the oracle, after histories that the model wrote, and after those of
the references.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from freerun.batch import Batch, Source, shift_right
from freerun.costs.rows import length_mask
from freerun.data import Examples
from freerun.evaluation.bootstrap import (
    Interval,
    check_draws,
    draw_weights,
    find_quantiles,
)
from freerun.evaluation.decoding import GREEDY, Decoding, batches_by_length, decode, on_device
from freerun.evaluation.prefix_errors import split_cells
from freerun.policy import Policy, evaluation_mode

NEGLIGIBLE = 1e-6
"""A divergence in nats per token that may be rounding; nothing is a multiple of it."""


@dataclass(frozen=True)
class AccumulatedErrors:
    """Errors of a model, as its divergence from an oracle (Arora et al. 2022, arXiv 2204.01171).

    With D(h) = KL(oracle ‖ model) of the next token after history h, in nats:

    - R(l), the regret, is the sum over t = 1 … l of the mean D(h) over the histories h of t-1
      tokens that the model wrote;
    - ε(l), the error per step, is the mean over t = 1 … l of the mean D(h) over the histories of
      t-1 tokens of the references;
    - AccErr(l) = R(l) / ε(l), which is l if errors do not accumulate, and grows faster if they do;
    - %ExAccErr(l) = 100·(R(l) - l·ε(l)) / (l·ε(l)).

    Outputs and references that have ended are left out of a mean. Quotients are NaN if ε(l) is at
    most 1e-6.

    Attributes:
        sentences: the number of sentences.
        tokens: the number of tokens that the model wrote.
        length: the number of tokens that at least half of the outputs and half of the references
            have. All figures are about the first `length` tokens.
        after_reference: ε(length).
        after_own: R(length) / length.
        accumulated: AccErr(length).
        excess_percent: %ExAccErr(length).
        regret_by_length: R(l) for l = 1 … length.
        error_by_length: ε(l).
        accumulated_by_length: AccErr(l).
        excess_percent_by_length: %ExAccErr(l).
    """

    sentences: int
    tokens: int
    length: int
    after_reference: Interval
    after_own: Interval
    accumulated: Interval
    excess_percent: Interval
    regret_by_length: list[float]
    error_by_length: list[float]
    accumulated_by_length: list[float]
    excess_percent_by_length: list[float]


def measure_accumulated_errors(
    policy: Policy,
    oracle: Policy,
    examples: Examples,
    *,
    decoding: Decoding = GREEDY,
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 2_000,
) -> AccumulatedErrors:
    """Measure how far a model diverges from an oracle after its own text, and after the references.

    Divergences are exact sums over all next tokens. Intervals are from a bootstrap over sentences.

    Args:
        policy: the model, which reads and decodes in evaluation mode.
        oracle: a better model with the same tokens, on the same device.
        examples: prompts with references that the model was not trained on. The references are
            assumed to be drawn from the distribution that the oracle knows.
        decoding: how the model writes its own histories. Sampling from the model shows the effect
            of its errors alone; other decoding adds that of the decoding.
        batch_size: the number of sentences decoded together.
        seed: the seed of the bootstrap.
        draws: the number of draws of the bootstrap.

    Raises:
        ValueError: if there are no examples, the tokens of the oracle differ, the policy has a
            backspace, or the model excludes a token that the oracle does not.
    """
    _check(policy, oracle, examples, draws)
    own: list[Tensor] = []
    reference: list[Tensor] = []
    with torch.no_grad(), evaluation_mode(policy), evaluation_mode(oracle):
        for numbers in batches_by_length(examples, batch_size):
            batch = on_device(examples.batch(numbers), policy)
            pair = policy, oracle, batch.source
            own.append(measure_divergence(*pair, *_write(policy, oracle, batch, decoding)))
            reference.append(measure_divergence(*pair, batch.target, batch.mask))
    columns = _Columns(_stack(own), _stack(reference))
    point = columns.find_curves(np.ones(columns.sentences))
    spread = [
        columns.find_curves(weights) for weights in draw_weights(columns.sentences, seed, draws)
    ]

    def estimate(name: str) -> Interval:
        drawn = np.array([curves[name][-1] for curves in spread])
        low, high = find_quantiles(drawn)
        return Interval(float(point[name][-1]), float(low), float(high))

    return AccumulatedErrors(
        sentences=columns.sentences,
        tokens=sum(int(part.isfinite().sum()) for part in own),
        length=columns.length,
        after_reference=estimate("error"),
        after_own=estimate("own_error"),
        accumulated=estimate("accumulated"),
        excess_percent=estimate("excess_percent"),
        regret_by_length=point["regret"].tolist(),
        error_by_length=point["error"].tolist(),
        accumulated_by_length=point["accumulated"].tolist(),
        excess_percent_by_length=point["excess_percent"].tolist(),
    )


def _check(policy: Policy, oracle: Policy, examples: Examples, draws: int) -> None:
    if policy.vocabulary.backspace is not None:
        raise ValueError("the policy has a backspace; measure a policy that keeps what it writes")
    for what in ("symbols", "eos"):
        if getattr(policy.vocabulary, what) != getattr(oracle.vocabulary, what):
            raise ValueError(f"the {what} of the oracle differ from those of the model")
    if not len(examples):
        raise ValueError("there are no examples")
    check_draws(draws)


def _write(
    policy: Policy, oracle: Policy, batch: Batch, decoding: Decoding
) -> tuple[Int[Tensor, "b u"], Bool[Tensor, "b u"]]:
    """Return the outputs of the model, as far as the oracle can read, and a mask of them."""
    limit = torch.minimum(policy.limit(batch.source), oracle.limit(batch.source))
    decoded = decode(policy, batch.source, decoding, ids=batch.ids, limit=limit)
    return decoded.tokens, length_mask(decoded.tokens.shape[1], decoded.lengths)


def measure_divergence(
    policy: Policy,
    oracle: Policy,
    source: Source,
    tokens: Int[Tensor, "b u"],
    mask: Bool[Tensor, "b u"],
) -> Float64[Tensor, "b u"]:
    """Compute KL(oracle ‖ model) of the next token before each cell that is true; NaN elsewhere.

    Raises:
        ValueError: if it is not finite.
    """
    traces = [
        each.force(source, shift_right(tokens, each.vocabulary.bos)) for each in (policy, oracle)
    ]
    found = torch.full(tokens.shape, torch.nan, dtype=torch.float64, device=tokens.device)
    for cells, some in split_cells(mask, policy.vocabulary.actions):
        # Half precision is too coarse for differences of log-probabilities.
        scores = [trace.logits(some) for trace in traces]
        wide = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in scores]
        model, true = (each.log_softmax(1) for each in wide)
        difference = (true - model).masked_fill(true == -torch.inf, 0)
        found.view(-1)[cells] = (true.exp() * difference).sum(1).clamp(min=0).double()
    if not found[mask].isfinite().all():
        raise ValueError(
            "the divergence is infinite: the model excludes a token that the oracle does not"
        )
    return found


def _stack(parts: list[Tensor]) -> Float64[np.ndarray, "n u"]:
    """Put the rows of all batches below each other; what is not there is NaN."""
    width = max(part.shape[1] for part in parts)
    pad = torch.nn.functional.pad
    rows = [pad(part, (0, width - part.shape[1]), value=torch.nan) for part in parts]
    return torch.cat(rows).cpu().numpy()


class _Columns:
    """The divergences of all outputs and references, one row per sentence and one column per token.

    Args:
        own: the divergences after own histories; NaN where the output has ended.
        reference: those after histories of the references.
    """

    def __init__(
        self, own: Float64[np.ndarray, "n u"], reference: Float64[np.ndarray, "n t"]
    ) -> None:
        self.sentences = len(own)
        common = min(own.shape[1], reference.shape[1])
        pair = own[:, :common], reference[:, :common]
        there = np.stack([~np.isnan(each) for each in pair])
        most = (2 * there.sum(1) >= self.sentences).all(0)
        self.length = max(1, int(most.sum()))
        self.there = there[..., : self.length].astype(float)
        self.values = np.nan_to_num(np.stack(pair)[..., : self.length])

    def find_curves(self, weights: Float64[np.ndarray, "n"]) -> dict[str, np.ndarray]:
        """Compute the figures for every length, each sentence having a weight."""
        with np.errstate(invalid="ignore", divide="ignore"):
            own, reference = (weights @ self.values) / (weights @ self.there)
            length = np.arange(1, self.length + 1)
            regret = own.cumsum()
            error = reference.cumsum() / length
            known = np.where(error > NEGLIGIBLE, error, np.nan)
            return {
                "regret": regret,
                "own_error": regret / length,
                "error": error,
                "accumulated": regret / known,
                "excess_percent": 100 * (regret / (length * known) - 1),
            }
