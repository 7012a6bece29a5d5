"""Measure the noise of the gradients of scheduled sampling, with hard and relaxed tokens.

At one checkpoint, the gradient of each method is computed for many draws of coins and noise on one
batch (`draws`), and of batches too (`batches`). The figures are variances per parameter, averaged
over parameters; `noise to signal` divides the latter by the mean square of the mean gradient. Run
`python examples/gradient_variance.py CHECKPOINT` with the folder of a run of
`freerun train` or `freerun compare`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from freerun.batch import Batch
from freerun.methods import MLE, Clock, DifferentiableScheduledSampling, Method, ScheduledSampling
from freerun.models import RecurrentPolicy
from freerun.randomness import permutation
from freerun.tasks import load_data
from freerun.training import load_policy
from freerun.training.tasks import load_task

HALF = {"schedule": "constant", "k": 0.5}
MIXED = {**HALF, "straight_through": False}
METHODS: dict[str, Method] = {
    "MLE": MLE(),
    "scheduled sampling, greedy": ScheduledSampling(**HALF),
    "scheduled sampling, sampled": ScheduledSampling(feedback="sample", **HALF),
    "soft argmax, α = 1": DifferentiableScheduledSampling(alpha=1, **MIXED),
    "soft argmax, α = 10": DifferentiableScheduledSampling(alpha=10, **MIXED),
    "straight-through, α = 1": DifferentiableScheduledSampling(**HALF),
    "soft sample, α = 1": DifferentiableScheduledSampling(relaxation="soft_sample", **MIXED),
}


def gradient(policy: RecurrentPolicy, method: Method, batch: Batch, step: int) -> torch.Tensor:
    """Return the gradient of the loss per token, with all parameters in one row."""
    policy.zero_grad()
    outcome = method.loss(policy, batch, Clock(step=step, total=2, seed=1))
    (outcome.total / outcome.count).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]).double()


def spread(gradients: list[torch.Tensor]) -> tuple[float, float]:
    """Return the mean variance per parameter, and its ratio to the mean squared mean gradient."""
    stacked = torch.stack(gradients)
    variance = stacked.var(0).mean()
    return float(variance), float(variance / stacked.mean(0).square().mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--draws", type=int, default=200, help="the number of gradients per figure")
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    policy, codec = load_policy(options.checkpoint)
    policy.eval()  # without dropout, whose noise is not the question
    examples = load_data(load_task(str(options.checkpoint)), codec).train
    order = permutation(len(examples), 1, "batches").tolist()
    size = options.batch_size
    print(f"{'':30}{'draws':>12}{'batches':>12}{'noise to signal':>18}")
    for name, method in METHODS.items():
        one = examples.batch(order[:size])
        draws = [gradient(policy, method, one, step) for step in range(options.draws)]
        batches = []
        for step in range(options.draws):
            numbers = [order[(step * size + i) % len(order)] for i in range(size)]
            batches.append(gradient(policy, method, examples.batch(numbers), step))
        (within, _), (across, relative) = spread(draws), spread(batches)
        print(f"{name:30}{within:12.2e}{across:12.2e}{relative:18.1f}")


if __name__ == "__main__":
    main()
