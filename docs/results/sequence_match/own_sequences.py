"""What own sequences teach: the gradient of their part of the SequenceMatch loss.

Run `python docs/results/sequence_match/own_sequences.py RUN --json FILE` with the folder of a model
with a backspace. Sequences are sampled for some of its training examples, once until eos and once
cut off. Then the gradient of the loss (divided as in training) with respect to all weights is split
into two parts that add up to it: one of what was sampled, and the rest, of the data and of V(u_0),
the value of the own sequences' first state.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from freerun.decoding import sample
from freerun.losses import ScoredActions, sequence_match_loss
from freerun.methods import BehaviorCloning, Clock
from freerun.methods.behavior_cloning import score_actions
from freerun.tasks.loading import load_data
from freerun.training import load_policy
from freerun.training.tasks import load_task

EXAMPLES, GAMMA, NOISE = 256, 0.998, 0.05
LENGTHS = (None, 12, 4)
SETTINGS = (
    ("chi2_mixture", 0.01),
    ("chi2_mixture", 0.1),
    ("chi2_mixture", 1.0),
    ("kl_data_model", 0.01),
    ("kl_data_model", 1.0),
    ("js", 1.0),
)


def without_gradient(scored: ScoredActions) -> ScoredActions:
    """Return the same as constants."""
    return dataclasses.replace(scored, scores=scored.scores.detach(), values=scored.values.detach())


def norm(found: list[Tensor]) -> float:
    """Return the Euclidean norm of a gradient."""
    return float(torch.stack([each.square().sum() for each in found]).sum().sqrt())


def main() -> None:
    """Write and print the norms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    policy, codec = load_policy(options.run)
    policy.eval()
    train = load_data(load_task(options.run), codec).train
    batch = train.batch(range(EXAMPLES))
    noisy = BehaviorCloning(noise=NOISE).insert_noise(policy.vocabulary, batch, Clock())
    weights = [each for each in policy.parameters() if each.requires_grad]

    def gradient(loss: Callable[[], Tensor]) -> list[Tensor]:
        found = torch.autograd.grad(loss(), weights, allow_unused=True)
        return [
            torch.zeros_like(w) if each is None else each
            for w, each in zip(weights, found, strict=True)
        ]

    def data() -> ScoredActions:
        return score_actions(policy, batch.source, noisy.actions, noisy.mask)

    count = batch.mask.sum()
    whole = sample(policy, batch.source, ids=batch.ids, seed=0)
    ends = ((whole.all_actions[0] == policy.vocabulary.eos) & whole.all_actions[1]).any(1)
    kept = train.batch(ends.nonzero()[:, 0].tolist())  # sequences that end by themselves
    rows = []
    for length in LENGTHS:
        # The draws of an example are the same every time, so only the length differs.
        cut = policy.limit(kept.source)
        cut = cut if length is None else cut.clamp(max=length)
        own = sample(policy, kept.source, ids=kept.ids, seed=0, limit=cut)

        def theirs(own=own) -> ScoredActions:
            return score_actions(policy, kept.source, *own.all_actions)

        ended = float(theirs().ended.float().mean())
        start = gradient(lambda: theirs().values[:, 0].mean() * EXAMPLES / 2 / count)
        for divergence, alpha in SETTINGS:
            given = {"divergence": divergence, "alpha": alpha, "gamma": GAMMA}
            of_data = gradient(
                lambda g=given: (
                    sequence_match_loss(data(), without_gradient(theirs()), **g)[0] / count
                )
            )
            of_own = gradient(
                lambda g=given: (
                    sequence_match_loss(without_gradient(data()), theirs(), **g)[0] / count
                )
            )
            sampled = [every - part for every, part in zip(of_own, start, strict=True)]
            rows.append(
                {
                    "length": length,
                    "ended": round(ended, 4),
                    "divergence": divergence,
                    "alpha": alpha,
                    "rest": norm([a + b for a, b in zip(of_data, start, strict=True)]),
                    "sampled": norm(sampled),
                    "outside_domain": float(
                        sequence_match_loss(without_gradient(data()), None, **given)[1]
                    ),
                }
            )
            print(*(f"{v:.4g}" if isinstance(v, float) else v for v in rows[-1].values()))
    options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
