"""What the decoder of differentiable scheduled sampling reads in training, and in use.

In training it reads mixtures of embeddings, in use tokens. The same model is measured on dev after
reference tokens, after the mixtures of its training, and after its own greedy tokens; and how far
those mixtures are from the nearest embedding, where 1 is the mean distance of two embeddings, and
how many nats their weights spread over. A model trained by another method mixes with α = 1.

    python examples/relaxed_tokens.py RUN [RUN ...]

with the folders of runs of `freerun train` or `freerun compare`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from freerun.batch import Batch
from freerun.methods import DifferentiableScheduledSampling
from freerun.policy import Policy
from freerun.randomness import gumbel
from freerun.relaxations import soft_argmax, straight_through
from freerun.roll_in import InputFunction, score_relaxed
from freerun.training.record import find_record
from freerun.training.tasks import load_measured

COLUMNS = ("reference", "mixtures", "tokens", "distance", "spread")


def measure(
    policy: Policy, batch: Batch, settings: DifferentiableScheduledSampling
) -> dict[str, float]:
    """Return the error after each kind of prefix, and how far mixtures are from tokens.

    Args:
        policy: the model.
        batch: sentences whose outputs are as long as their targets, cell by cell.
        settings: the relaxation of training; α is that of its end.
    """
    alpha, fed = settings.alpha_end or settings.alpha, []

    def mix(scores: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        if settings.relaxation == "soft_sample":
            names = batch.ids[rows][:, None], cells[:, None], torch.arange(scores.shape[-1])
            scores = scores + gumbel(0, *names, dtype=scores.dtype)
        weights = soft_argmax(scores, alpha, top_k=settings.top_k)
        fed.append(straight_through(weights) if settings.straight_through else weights)
        return fed[-1]

    def choose(scores: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        return scores.argmax(-1)

    def err(relax: InputFunction, own: bool) -> float:
        scores = score_relaxed(policy, batch, torch.full_like(batch.mask, own), relax)
        return float((scores.argmax(-1) != batch.target[batch.mask]).float().mean())

    found = err(choose, False), err(mix, True), err(choose, True)
    weights = torch.cat(fed)
    tokens = policy.embed(torch.arange(weights.shape[-1]))
    apart = torch.pdist(tokens).mean()
    distance = torch.cdist(policy.embed(weights), tokens).amin(-1).mean() / apart
    spread = torch.special.entr(weights).sum(-1).mean()
    return dict(zip(COLUMNS, (*found, float(distance), float(spread)), strict=True))


@torch.no_grad()
def main(runs: Sequence[str]) -> dict[str, dict[str, float]]:
    """Print and return the figures of every run."""
    table = {}
    print(f"{'error % after':40}" + "".join(f"{name:>11}" for name in COLUMNS))
    for run in runs:
        found = load_measured(run, "dev", None)
        _, record = find_record(run)
        (method,) = record.methods.values()
        relaxed = method["method"] == DifferentiableScheduledSampling.name
        settings = DifferentiableScheduledSampling(**method["settings"] if relaxed else {})
        batch = found.examples.batch(range(min(500, len(found.examples))))
        figures = measure(found.policy.eval(), batch, settings)
        scaled = ((100 if name in COLUMNS[:3] else 1) * value for name, value in figures.items())
        print(f"{run[-40:]:40}" + "".join(f"{value:11.2f}" for value in scaled))
        table[run] = figures
    return table


if __name__ == "__main__":
    main(sys.argv[1:])
