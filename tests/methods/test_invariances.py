"""What must not change a loss or its gradient, for every method."""

import pytest
import torch

from freerun.batch import Batch
from freerun.methods import (
    BSO,
    METHODS,
    MIXER,
    MLE,
    MRT,
    OCD,
    RAML,
    Clock,
    DifferentiableScheduledSampling,
    Method,
    Reinforce,
    ScheduledSampling,
    SelfDistillation,
    Unlikelihood,
)
from freerun.vocabulary import Vocabulary
from tests.helpers import close, gradients, padded, searnn, single, tiny_batch, tiny_policy

CLOCK = Clock(2, total=9, seed=3)
HALF = {"schedule": "constant", "k": 0.4}
COSTS = {"cost": "edit_distance", "warm_up": 0.0}
ALL = {
    "mle": MLE(),
    "smoothed": MLE(label_smoothing=0.1),
    "greedy": ScheduledSampling(**HALF),
    "sample": ScheduledSampling(**HALF, feedback="sample"),
    "soft argmax": DifferentiableScheduledSampling(**HALF, straight_through=False),
    "soft sample": DifferentiableScheduledSampling(
        **HALF, relaxation="soft_sample", straight_through=False
    ),
    "straight-through": DifferentiableScheduledSampling(**HALF, straight_through=True, top_k=2),
    "constant mixtures": DifferentiableScheduledSampling(**HALF, through=False),
    "sample in passes": ScheduledSampling(**HALF, feedback="sample", passes=3),
    "soft sample in passes": DifferentiableScheduledSampling(
        **HALF, relaxation="soft_sample", straight_through=False, top_k=2, passes=2
    ),
    "constant mixtures in passes": DifferentiableScheduledSampling(
        **HALF, relaxation="soft_sample", passes=3, through=False
    ),
    "searched": searnn(cost="edit_distance", reference="copy", alpha=5.0),
    "searched in part": searnn(
        roll_in="mixed_cells", roll_out="focused", focus=1, cost="gleu", reference="copy",
        cell_loss="ll", cells=2, token_choice="biased", tokens=2, at_once=3,
    ),
    "searched near the target": searnn(
        roll_in="mixed", roll_out="learned", cost="edit_distance", reference="copy",
        cell_loss="js", alpha=5.0, token_choice="neighbors", tokens=3, neighbors=2, stretch=2.0,
    ),
    "optimal tokens": OCD(),
    "hints": SelfDistillation(warm_up=0.0, decay=0.0, share=0.5),
    "risk": MRT(**COSTS, samples=3, kappa=0.7),
    "edited targets": RAML(edits=0.5),
    "edited targets by cost": RAML(cost="edit_distance", temperature=0.3, candidates=3, edits=0.6),
    "beam": BSO(warm_up=0.0, beam=3, anneal=0.0),
    "beam of last scores": BSO(warm_up=0.0, beam=4, score="last", cost="gleu", anneal=0.0),
    "samples": Reinforce(**COSTS, samples=2, baseline="none"),
    "samples against the others": Reinforce(**COSTS, samples=3),
    "samples against greedy outputs": Reinforce(**COSTS, samples=1, baseline="greedy"),
    "samples of the last tokens": MIXER(**COSTS, samples=2, baseline="leave_one_out", anneal=0.6),
    "unlikely tokens": Unlikelihood(weight=0.5),
    "unlikely sequences": Unlikelihood(level="sequence", ngram=1, share=0.6),
}  # fmt: skip
POLICIES = [
    {"attention": "additive", "input_feeding": True, "bidirectional": True},
    {"cell": "lstm", "layers": 2, "source": "factors"},
    {"eos": False, "attention": "aligned", "source": "real"},
]


@pytest.fixture(params=ALL.values(), ids=ALL)
def method(request):
    ends = isinstance(request.param, OCD | SelfDistillation) and "policy" in request.fixturenames
    if ends and request.getfixturevalue("policy").vocabulary.eos is None:
        pytest.skip("needs outputs that end in eos")
    return request.param


@pytest.fixture(params=POLICIES, ids=str)
def policy(request):
    return tiny_policy(4, **request.param)


@pytest.fixture
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


def same(policy, first, second):
    close(first.total, second.total)
    close(gradients(policy, first.total), gradients(policy, second.total), 1e-11)
    assert int(first.count) == int(second.count)
    close(first.metrics, second.metrics)


@pytest.mark.sample(40)
def test_padding_changes_nothing(policy, batch, method):
    """Its length, and which tokens it is made of."""
    plain = method.loss(policy, batch, CLOCK)
    for pad in (0, policy.vocabulary.actions - 1, policy.vocabulary.pad):
        same(policy, method.loss(policy, padded(batch, pad), CLOCK), plain)
    junk = batch.target.where(batch.mask, 1)
    other = Batch(batch.ids, batch.source, junk, batch.mask)
    same(policy, method.loss(policy, other, CLOCK), plain)


@pytest.mark.sample(40)
def test_order_changes_nothing(policy, batch, method):
    shuffled = batch.select(torch.tensor([3, 0, 4, 2, 1]))
    same(policy, method.loss(policy, shuffled, CLOCK), method.loss(policy, batch, CLOCK))


@pytest.mark.sample(60)
@pytest.mark.parametrize("parts", [[0, 1, 2, 3, 4], [0, 2, 5]])
def test_parts_sum_to_the_whole(policy, batch, method, parts):
    """Batches of one, gradient accumulation, several processes: totals and counts add up."""
    whole = method.loss(policy, batch, CLOCK)
    total, count = 0.0, 0
    summed = {name: torch.zeros_like(p) for name, p in policy.named_parameters()}
    for start, end in zip(parts, [*parts[1:], 5], strict=True):
        rows = torch.arange(start, end)
        if len(rows) == 0:
            continue
        part = single(batch, start) if len(rows) == 1 else batch.select(rows)
        outcome = method.loss(policy, part, CLOCK)
        total, count = total + outcome.total.detach(), count + int(outcome.count)
        for name, gradient in gradients(policy, outcome.total).items():
            summed[name] += gradient
    close(total, whole.total.detach())
    assert count == int(whole.count)
    close(summed, gradients(policy, whole.total), 1e-11)


def test_pad_may_equal_eos(method):
    """eos is scored and padding is not, whichever token fills the rest."""
    symbols = ("a", "b", "c", ".")
    outcomes = []
    edits = isinstance(method, RAML)  # which never edits a letter that is pad
    own = isinstance(method, SelfDistillation)  # whose outputs have other lengths
    for pad in (3, 4) if edits else (3, 4, 0):
        words = Vocabulary(symbols, bos=4, pad=pad, eos=3)
        policy = tiny_policy(words=words, attention="general", seed=2)
        batch = tiny_batch(policy, targets=(2, 4, 1, 3))
        assert bool((batch.target[~batch.mask] == pad).all())
        outcomes.append(method.loss(policy, batch, CLOCK))
        assert edits or own or int(outcomes[-1].count) == 10
    for outcome in outcomes[1:]:
        close(outcome.total, outcomes[0].total)


def test_chance_comes_from_the_clock_alone(policy, batch, method):
    torch.manual_seed(1)
    first = method.loss(policy, batch, CLOCK).total
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, method.loss(policy, batch, CLOCK).total)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["greedy", "sample", "soft sample"])
def test_chance_changes_with_update_run_and_example(name):
    policy = tiny_policy(4, eos=False)
    batch = tiny_batch(policy, lengths=(4,) * 20)
    renamed = Batch(batch.ids + 1000, batch.source, batch.target, batch.mask)
    losses = {
        float(ALL[name].loss(policy, examples, clock).total.detach())
        for examples, clock in [
            (batch, CLOCK),
            (batch, Clock(3, total=9, seed=3)),
            (batch, Clock(2, total=9, seed=4)),
            (renamed, CLOCK),
        ]
    }
    assert len(losses) == 4


@pytest.mark.parametrize("name", ["greedy", "sample", "sample in passes", "constant mixtures"])
def test_own_tokens_come_without_dropout(name, monkeypatch):
    """The roll-in is that of the policy as it decodes; what has a gradient drops out."""
    policy = tiny_policy(4, attention="general", dropout=0.5, layers=2)
    batch = tiny_batch(policy, targets=(2, 4, 1, 3))
    seen, read, force = [], [], policy.force

    def spy(source, inputs):
        seen.append((inputs, policy.training))
        return force(source, inputs)

    monkeypatch.setattr(policy, "force", spy)
    for training in (False, True, True):
        policy.train(training)
        ALL[name].loss(policy, batch, CLOCK)
        *before, (inputs, mode) = seen
        assert mode == policy.training == training
        assert not any(mode for _, mode in before)
        read.append(inputs)
        seen.clear()
    assert all(torch.equal(inputs, read[0]) for inputs in read)


def test_an_example_without_target_is_refused(policy, batch, method):
    mask = batch.mask.clone()
    mask[2] = False
    empty = Batch(batch.ids, batch.source, batch.target, mask)
    message = f"^example {int(batch.ids[2])} has no target tokens to learn$"
    with pytest.raises(ValueError, match=message):
        method.loss(policy, empty, CLOCK)
    nothing = Batch(batch.ids, batch.source, batch.target, torch.zeros_like(mask))
    message = f"^example {int(batch.ids[0])} has no target tokens to learn$"
    with pytest.raises(ValueError, match=message):
        method.loss(policy, nothing, CLOCK)


def test_methods_are_known_by_name():
    assert list(METHODS) == [
        "mle", "behavior_cloning", "unlikelihood", "scheduled_sampling",
        "differentiable_scheduled_sampling", "offline_scheduled_sampling", "answer_correction",
        "bso", "sequence_match", "searnn", "ocd", "mrt", "reinforce", "mixer",
        "actor_critic", "raml", "gkd",
        "self_distillation",
    ]  # fmt: skip
    for name, kind in METHODS.items():
        assert issubclass(kind, Method)
        assert kind.name == name
        assert kind.paper
        assert kind.summary
        with pytest.raises(TypeError):
            kind(0.5)  # settings are named: a flag cannot be taken for a number
