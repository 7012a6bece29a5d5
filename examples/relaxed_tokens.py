"""What the decoder of differentiable scheduled sampling reads in training, and in use.

In training it reads mixtures of embeddings, in use tokens. The same model is measured on dev after
reference tokens, after the mixtures of its training, and after its own greedy tokens; and how far
those mixtures are from the nearest embedding, where 1 is the mean distance of two embeddings, and
how many nats their weights spread over. A model trained by another method mixes with α = 1.

    python examples/relaxed_tokens.py RUN [RUN ...] [PICTURE.png]

with the folders of runs of `freerun train` or `freerun compare`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
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
        fed.append(straight_through(weights) if settings.reads_tokens else weights)
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
    pictures = [each for each in runs if each.endswith(".png")]
    table = {}
    print(f"{'error % after':40}" + "".join(f"{name:>11}" for name in COLUMNS))
    for run in (each for each in runs if each not in pictures):
        found = load_measured(run, "dev", None)
        _, record = find_record(run)
        (method,) = record.methods.values()
        relaxed = method["method"] == DifferentiableScheduledSampling.name
        chosen = method["settings"] if relaxed else {"straight_through": False}
        settings = DifferentiableScheduledSampling(**chosen)
        batch = found.examples.batch(range(min(500, len(found.examples))))
        figures = measure(found.policy.eval(), batch, settings)
        scaled = ((100 if name in COLUMNS[:3] else 1) * value for name, value in figures.items())
        print(f"{run[-40:]:40}" + "".join(f"{value:11.2f}" for value in scaled))
        table[run] = figures
    if pictures:
        draw(table, pictures[0])
    return table


def draw(table: Mapping[str, Mapping[str, float]], path: str) -> None:
    """Draw the error of every run after mixtures and after tokens."""
    figure = Figure(figsize=(7, 0.9 + 0.4 * len(table)), layout="constrained")
    axes = figure.subplots()
    for place, figures in enumerate(table.values()):
        mixtures, tokens = (100 * figures[name] for name in ("mixtures", "tokens"))
        axes.plot([mixtures, tokens], [place, place], color="#9BB8CC", linewidth=3, zorder=1)
        axes.scatter(mixtures, place, color="#D55E00", zorder=2, label="what it read in training")
        axes.scatter(tokens, place, color="#0072B2", zorder=2, label="own tokens, as in use")
    names = [Path(run).parent.name if "seed-" in run else Path(run).name for run in table]
    axes.set_yticks(range(len(table)), names)
    axes.invert_yaxis()
    axes.set_xlabel("errors on dev, %")
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1:])
