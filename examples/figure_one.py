"""Figure 1 of Goyal et al. 2017 (arXiv 1704.06970): the objective along one parameter.

With greedy scheduled sampling the objective jumps wherever an argmax changes, and its gradient
between the jumps does not show them. With soft argmax it is continuous: smooth but far off with a
small α, close but steep with a large one. Run `python examples/figure_one.py figure_one.png`.
"""

from __future__ import annotations

import sys

import torch
from matplotlib.figure import Figure

from freerun.batch import Batch, Source
from freerun.methods import Clock, DifferentiableScheduledSampling, Method, ScheduledSampling
from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.vocabulary import Vocabulary

ALWAYS_OWN = {"schedule": "constant", "k": 0.0}
MIXED = {**ALWAYS_OWN, "straight_through": False}
CURVES: list[tuple[str, str, Method]] = [
    ("greedy", "#999999", ScheduledSampling(**ALWAYS_OWN)),
    ("soft argmax, α = 1", "#0072b2", DifferentiableScheduledSampling(alpha=1, **MIXED)),
    ("soft argmax, α = 20", "#d55e00", DifferentiableScheduledSampling(alpha=20, **MIXED)),
]


def tiny_policy() -> RecurrentPolicy:
    """Return a small decoder with weights so large that own tokens affect later cells."""
    torch.manual_seed(2)
    vocabulary = Vocabulary.build("abcde", eos=False)
    config = RecurrentConfig.from_vocabulary(
        vocabulary, features=2, hidden_size=6, embedding_size=6
    )
    policy = RecurrentPolicy(config).double()
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(2)
    return policy


def objective(
    policy: RecurrentPolicy, method: Method, parameter: torch.Tensor, values: torch.Tensor
) -> list[float]:
    """Return the loss per token of one sentence for every value of one parameter."""
    mask = torch.ones(1, 6, dtype=torch.bool)
    batch = Batch(
        ids=torch.tensor([0]),
        source=Source(torch.ones(1, 6, 2, dtype=torch.double), mask),
        target=torch.tensor([[0, 3, 1, 4, 2, 0]]),
        mask=mask,
    )
    losses = []
    with torch.no_grad():
        for value in values:
            parameter[0] = value
            outcome = method.loss(policy, batch, Clock())
            losses.append(float(outcome.total / outcome.count))
    return losses


def main(path: str) -> None:
    """Draw the figure to `path`."""
    policy = tiny_policy()
    values = torch.linspace(-1, 2.5, 801, dtype=torch.double)
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for label, colour, method in CURVES:
        losses = torch.tensor(objective(policy, method, policy.output.bias.data, values))
        width = 1.6
        if label == "greedy":
            width = 4.0  # under the others, and still seen
            # A jump is no line: break the curve where neighboring values are far apart.
            losses[1:][losses.diff().abs() > 0.02] = torch.nan
        axes.plot(values, losses, color=colour, label=label, linewidth=width)
    axes.set_xlabel("value of one parameter (the output bias of one token)")
    axes.set_ylabel("loss per token (nats)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/figure_one.py PICTURE.png")
    main(sys.argv[1])
