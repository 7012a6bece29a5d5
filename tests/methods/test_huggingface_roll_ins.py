"""Scheduled sampling on Hugging Face models: cell by cell, in passes, and from scratch."""

import pytest
import torch
from torch.func import functional_call

from freerun.losses import log_loss
from freerun.methods import Clock, DifferentiableScheduledSampling, ScheduledSampling
from tests.helpers import close, gradients, single
from tests.methods.checks import Loss
from tests.models.models import ARCHITECTURES, plain_scores, text_batch, tiny_adapted
from tests.twins import twin_roll_in, twin_score_relaxed

CLOCK = Clock(3, total=9, seed=1)
SOFT = {"straight_through": False, "alpha": 0.7, "alpha_end": 0.7}
KINDS = {
    "greedy": (ScheduledSampling, {}),
    "sample": (ScheduledSampling, {"feedback": "sample"}),
    "soft argmax": (DifferentiableScheduledSampling, SOFT),
    "soft sample": (DifferentiableScheduledSampling, SOFT | {"relaxation": "soft_sample"}),
    "top-k": (DifferentiableScheduledSampling, SOFT | {"top_k": 3}),
    "straight-through": (DifferentiableScheduledSampling, SOFT | {"straight_through": True}),
    "constant": (DifferentiableScheduledSampling, SOFT | {"through": False}),
}
QUICK = [("gpt2", True), ("bart", False)]
SLOW = [("gpt2", False), ("mistral", True), ("t5", True)]


def params(kinds, marks=()):
    return [pytest.param(kind, marks=marks, id=f"{kind[0]}-{kind[1]}") for kind in kinds]


@pytest.fixture(params=params(QUICK) + params(SLOW, pytest.mark.slow))
def policy(request):
    """Named by its architecture, and whether its sources are those of targets."""
    name, shared = request.param
    policy = tiny_adapted(name, shared=shared, letters="abcd")
    policy.tolerance = ARCHITECTURES[name].tolerance
    return policy


@pytest.fixture
def batch(policy):
    return text_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 4))


def method_of(kind, share, **settings):
    which, chosen = KINDS[kind]
    return which(schedule="constant", k=share, **chosen, **settings)


def same(policy, first, second):
    """Values and gradients, as far as the precision of the architecture goes."""
    close(first, second, 30 * policy.tolerance)
    ours, theirs = gradients(policy, first), gradients(policy, second)
    most = max(1.0, *(float(gradient.abs().max()) for gradient in theirs.values()))
    close(ours, theirs, 10 * policy.tolerance * most)


@pytest.mark.parametrize("kind", ["greedy", "soft argmax"])
def test_the_roll_in_is_that_of_the_model_alone(policy, batch, kind):
    """One row and one cell at a time, each scored by a pass over everything before it."""
    method = method_of(kind, 0.4)
    own = method.draw_own(batch, CLOCK)
    if kind == "greedy":
        rows = twin_roll_in(policy, batch, own, lambda scores, rows, cell: scores.argmax(-1))
        scores = [
            plain_scores(policy, single(batch, row).source, torch.tensor([inputs]))
            for row, inputs in enumerate(rows)
        ]
        scores = torch.cat(scores)
    else:
        scores = twin_score_relaxed(
            policy, batch, own, lambda scores, rows, cell: (0.7 * scores).softmax(-1)
        )
    expected = log_loss(scores, batch.target[batch.mask])
    assert bool(own.any())
    same(policy, method.loss(policy, batch, CLOCK).total, expected)


# Finite differences


@pytest.mark.parametrize("settings", [{}, {"passes": 3, "top_k": 3}], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_finite_differences(name, settings):
    """The gradient by every parameter, in random directions."""
    policy = tiny_adapted(name, letters="abc")
    batch = text_batch(policy, lengths=(3, 2), targets=(2, 4))
    method = DifferentiableScheduledSampling(
        schedule="constant",
        k=0.3,
        alpha=1.5,
        relaxation="soft_sample",
        straight_through=False,
        **settings,
    )
    loss = Loss(policy, method, batch, CLOCK)
    names, parameters = zip(*loss.named_parameters(), strict=True)

    def total(*values):
        return functional_call(loss, dict(zip(names, values, strict=True)), ())

    generator = torch.Generator().manual_seed(0)
    found = torch.autograd.grad(total(*parameters), parameters)
    ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    ways = [way / way.norm() for way in ways]
    for start in range(10):  # some of the parameters at once
        some = range(start, len(parameters), 10)
        values = []
        for step in (1e-5, -1e-5):
            moved = [parameter.detach() for parameter in parameters]
            for i in some:
                moved[i] = moved[i] + step * ways[i]
            with torch.no_grad():
                values.append(float(total(*moved)))
        slope = (values[0] - values[1]) / 2e-5
        expected = sum(float((found[i] * ways[i]).sum()) for i in some)
        assert expected == pytest.approx(slope, rel=1e-5, abs=1e-6), [names[i] for i in some]


# Checkpointing


@pytest.mark.parametrize("kind", ["sample", "soft sample", "constant"])
def test_under_checkpointing(policy, batch, kind):
    """Own tokens are written with the cache; gradients need passes, which change nothing."""
    policy.train()
    methods = [method_of(kind, 0.4, passes=passes) for passes in (None, 2, 5)]
    before = [method.loss(policy, batch, CLOCK).total for method in methods]
    policy.model.activation_checkpointing_enable({"use_reentrant": False})
    if kind == "soft sample":
        with pytest.raises(ValueError, match="passes"):
            methods[0].loss(policy, batch, CLOCK)
        methods, before = methods[1:], before[1:]
    for method, expected in zip(methods, before, strict=True):
        same(policy, method.loss(policy, batch, CLOCK).total, expected)
