"""Sums of losses in chunks equal those of all scores, and so do their gradients."""

import copy
import itertools
from typing import get_args

import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

from freerun import chunks
from freerun.chunks import sum_in_chunks
from freerun.evaluation.evaluation import teacher_forced_total
from freerun.losses import log_loss
from freerun.methods import (
    BSO,
    GKD,
    MLE,
    MRT,
    OCD,
    RAML,
    SEARNN,
    ActorCritic,
    BehaviorCloning,
    Clock,
    DifferentiableScheduledSampling,
    Reinforce,
    ScheduledSampling,
    SequenceMatch,
    Unlikelihood,
    differentiable_scheduled_sampling,
)
from freerun.methods.searnn import AllTokens, Candidates, LogLoss, NeighboringTokens
from freerun.methods.searnn.candidates import TokenChoice
from freerun.models.huggingface import adapt
from freerun.models.huggingface.dropout import WithoutDropout
from freerun.relaxations import soft_argmax
from tests.helpers import close, gradients, tiny_batch, tiny_policy
from tests.models.media import media_batch, tiny_media
from tests.models.models import text_batch, tiny_adapted, tiny_model, words_of
from tests.models.test_huggingface_models import lora

CLOCK = Clock(2, total=9, seed=3)
METHODS = [
    MLE(label_smoothing=0.1),
    ScheduledSampling(schedule="constant", k=0.4),
    ScheduledSampling(schedule="constant", k=0.4, feedback="sample", passes=2),
    RAML(),
    OCD(),
    Unlikelihood(weight=0.7),
]


def make(name):
    if name == "gru":
        policy = tiny_policy(4)
        return policy, tiny_batch(policy)
    if name == "whisper":
        policy = tiny_media(name)
        return policy, media_batch(policy)
    policy = tiny_adapted(name, letters="abc")
    return policy, text_batch(policy)


@pytest.fixture
def small(monkeypatch):
    """Chunks of a single cell."""
    return lambda: monkeypatch.setattr(chunks, "MAX_SCORES", 1)


def test_chunks_are_of_about_one_size(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_SCORES", 100)
    for count, sizes in [(0, []), (10, [10]), (11, [6, 5]), (21, [7, 7, 7]), (23, [8, 8, 7])]:
        found = [range(count)[chunk] for chunk in chunks.split_chunks(count, width=10)]
        assert [len(each) for each in found] == sizes
        assert [*itertools.chain(*found)] == [*range(count)]
        assert chunks.needs_chunks(count, 10) == (len(found) > 1)
    assert len([*chunks.split_chunks(3, width=101)]) == 3


@pytest.mark.sample(14)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("name", ["gru", "gpt2", "gemma2", "t5", "bart", "whisper"])
def test_losses_and_gradients(small, method, name):
    """With tied heads, biases, scaled states and capped scores."""
    policy, batch = make(name)

    def run():
        outcome = method.loss(policy, batch, CLOCK)
        found = {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}
        return found | {name: torch.as_tensor(v) for name, v in outcome.metrics.items()}

    expected = run()
    small()
    close(run(), expected, 1e-11)


@pytest.mark.parametrize(
    "method",
    [
        BehaviorCloning(noise=0.4),
        SequenceMatch(noise=0.2, period=1, warm_up=0.0),
        Unlikelihood(level="sequence", ngram=1),
        Reinforce(samples=2, cost="edit_distance"),
        MRT(samples=2, cost="edit_distance"),
        ActorCritic(cost="edit_distance", samples=2, warm_up=0.0),
        BSO(beam=3, warm_up=0.0, anneal=0.0),
        BSO(beam=2, warm_up=0.0, anneal=0.0, score="last"),
    ],
    ids=lambda method: method.name,
)
@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_losses_of_numbers_of_each_cell(monkeypatch, method, name):
    """Of which the gradient is known last, so scores are computed twice."""
    policy, batch = make(name)
    policy.add_backspace(policy.vocabulary.with_backspace())
    if method.name not in ("behavior_cloning", "sequence_match"):
        policy, batch = make(name)

    def run():
        torch.manual_seed(0)
        modules = method.build_modules(policy)
        for module in modules.trained.values():  # a critic is 0 at first
            nn.init.normal_(module.output.weight)
        outcome = copy.deepcopy(method).loss(policy, batch, CLOCK, modules)
        both = nn.ModuleList([policy, modules.trained])
        return {"loss": outcome.total.detach(), **gradients(both, outcome.total)}

    expected = run()
    monkeypatch.setattr(chunks, "MAX_SCORES", 2 * policy.vocabulary.actions)
    close(run(), expected, 1e-11)


@pytest.mark.parametrize("choice", get_args(TokenChoice), ids=lambda choice: choice.name)
def test_search(small, choice):
    """Tokens are chosen, and their losses computed, a few cells at a time."""
    policy, batch = make("gpt2")
    few = {AllTokens: {}, NeighboringTokens: {"tokens": 3, "neighbors": 1}}
    tokens = choice(**few.get(choice, {"tokens": 2}))
    candidates = Candidates(cells=3, tokens=tokens)
    method = SEARNN(cost="edit_distance", candidates=candidates, cell_loss=LogLoss())

    def run():
        outcome = method.loss(policy, batch, CLOCK)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)} | {
            name: torch.as_tensor(value) for name, value in outcome.metrics.items()
        }

    expected = run()
    small()
    close(run(), expected, 1e-11)


@pytest.mark.parametrize("top_k", [None, 2])
@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_relaxed_tokens(monkeypatch, name, through, top_k):
    """Neither scores nor weights over tokens are in memory all at once."""
    policy, batch = make(name)
    noisy = {"relaxation": "soft_sample", "top_k": top_k, "passes": 3, "through": through}
    method = DifferentiableScheduledSampling(schedule="constant", k=0.2, **noisy)
    most = []

    def run():
        outcome = method.loss(policy, batch, CLOCK)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}

    expected = run()
    monkeypatch.setattr(chunks, "MAX_SCORES", 2 * policy.vocabulary.actions)
    monkeypatch.setattr(
        differentiable_scheduled_sampling,
        "soft_argmax",
        lambda scores, alpha: (most.append(len(scores)), soft_argmax(scores, alpha))[1],
    )
    close(run(), expected, 1e-11)
    assert max(most) == 2


@pytest.mark.parametrize("settings", [{}, {"relaxation": "soft_sample", "top_k": 2}])
@pytest.mark.parametrize("name", ["gru", "gpt2", "t5"])
def test_relaxed_tokens_cell_by_cell(small, name, settings):
    """Steps store neither scores nor weights over tokens; the backward pass computes them again."""
    policy, batch = make(name)
    method = DifferentiableScheduledSampling(schedule="constant", k=0.2, passes=0, **settings)
    saved = []

    def note(tensor):
        saved.append(tensor.numel())
        return tensor

    def run():
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outcome = method.loss(policy, batch, CLOCK)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}, sum(saved)

    expected, before = run()
    small()
    found, after = run()
    close(found, expected, 1e-11)
    assert after < before / 2


@pytest.mark.parametrize("name", ["gru", "gpt2"])
def test_distillation(small, name):
    """The scores of the teacher, too, are computed a few at a time."""
    (policy, batch), (teacher, _) = make(name), make(name)
    for weight in teacher.parameters():
        weight.data = weight.flip(0)
    method = GKD(teacher=teacher, share=0.5)

    def run():
        outcome = method.loss(policy, batch, CLOCK)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}

    expected = run()
    assert expected["loss"] > 0
    small()
    close(run(), expected, 1e-11)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft reads it
def test_only_adapters_get_a_gradient(small):
    policy = adapt(lora("gpt2"), words_of("gpt2"), limit=6, shared=True)
    batch = text_batch(policy)
    expected = gradients(policy, MLE().loss(policy, batch, CLOCK).total)
    small()
    close(gradients(policy, MLE().loss(policy, batch, CLOCK).total), expected, 1e-11)


def test_without_gradient(small):
    policy, batch = make("gpt2")
    with torch.no_grad():
        expected = teacher_forced_total(policy, batch)
        small()
        close(teacher_forced_total(policy, batch), expected)


def test_frozen_states_or_weights(small):
    head, hidden, targets = nn.Linear(3, 5).double(), torch.randn(4, 3).double(), torch.arange(4)
    total = log_loss(head(hidden), targets)
    (expected,) = torch.autograd.grad(total, [head.weight])
    small()
    total = sum_in_chunks(log_loss, head, hidden, targets, width=5)
    (2 * total).backward()
    close(head.weight.grad, 2 * expected)
    frozen, states = copy.deepcopy(head).requires_grad_(False), hidden.clone().requires_grad_()
    (found,) = torch.autograd.grad(
        sum_in_chunks(log_loss, frozen, states, targets, width=5), [states]
    )
    (expected,) = torch.autograd.grad(log_loss(frozen(states), targets), [states])
    close(found, expected)
    assert not sum_in_chunks(log_loss, frozen, hidden, targets, width=5).requires_grad


@pytest.mark.parametrize("copied", [1, 4, 100])
def test_half_precision_is_added_up_in_single(small, monkeypatch, copied):
    """Of a thousand equal cells, the gradient is a thousand times that of one."""
    monkeypatch.setattr(chunks, "MAX_COPIED", copied)
    head = nn.Linear(2, 3, bias=False).bfloat16()
    hidden, targets = torch.ones(1000, 2).bfloat16(), torch.zeros(1000, dtype=torch.long)
    (one,) = torch.autograd.grad(log_loss(head(hidden[:1]), targets[:1]), [head.weight])
    small()
    total = sum_in_chunks(log_loss, head, hidden, targets, width=3)
    total.backward()
    torch.testing.assert_close(head.weight.grad, 1000 * one, rtol=1e-2, atol=0)


class Head(nn.Module):
    """Two products with one weight, which is also used outside of products, and a bias."""

    def __init__(self, dtype):
        super().__init__()
        shapes = (3, 3), (3,)
        self.weight, self.bias = (nn.Parameter(torch.randn(*n, dtype=dtype)) for n in shapes)

    def forward(self, hidden):
        inner = functional.linear(hidden, self.weight, bias=self.bias).tanh()
        return functional.linear(inner, self.weight, self.bias) + self.weight.sum(0)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_of_products_are_added_within_them(small, monkeypatch, dtype, autocast):
    """Under autocast, single precision is converted to half, and double is not."""
    head, hidden = Head(dtype), torch.randn(4, 3, dtype=dtype).requires_grad_()
    targets, given = torch.arange(4) % 3, [hidden, head.weight, head.bias]
    half = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with half:
        expected = torch.autograd.grad(log_loss(head(hidden), targets), given)
    small()
    products, add_product = [], chunks._Gradients.add_product

    def count(self, weight, left, right):
        products.append(weight)
        add_product(self, weight, left, right)

    monkeypatch.setattr(chunks._Gradients, "add_product", count)
    with half:
        found = torch.autograd.grad(sum_in_chunks(log_loss, head, hidden, targets, width=3), given)
    tolerance = 1e-12 if dtype == torch.float64 else 5e-2 if autocast else 1e-5
    for each, other in zip(found, expected, strict=True):
        close(each, other, tolerance)
    assert len(products) == 2 * 4
    assert all(weight is head.weight for weight in products)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_of_a_head(small):
    config = peft.LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("llama"), config)
    policy = adapt(model, words_of("llama"), limit=6, shared=True)
    batch = text_batch(policy)
    expected = gradients(policy, MLE().loss(policy, batch, CLOCK).total)
    small()
    found = gradients(policy, MLE().loss(policy, batch, CLOCK).total)
    assert len(found) == 2
    close(found, expected, 1e-11)


def test_autocast_and_checkpoints(small):
    """Products under autocast are in half precision, as their layer is."""
    policy, batch = make("gpt2")
    policy.float().train()
    enable = getattr(policy.inner, "activation_checkpointing_enable", None)
    (enable or policy.inner.gradient_checkpointing_enable)()

    def run():
        with torch.autocast("cpu", torch.bfloat16), WithoutDropout():
            return gradients(policy, MLE().loss(policy, batch, CLOCK).total)

    expected = run()
    small()
    close(run(), expected, 5e-2)


def test_no_more_scores_at_a_time_than_fit(monkeypatch):
    monkeypatch.setattr(chunks, "MAX_SCORES", 12)
    head, counts = nn.Linear(2, 5), []

    def project(hidden):
        counts.append(len(hidden))
        return head(hidden)

    sum_in_chunks(log_loss, project, torch.randn(7, 2), torch.zeros(7, dtype=torch.long), width=5)
    assert counts == [1, 2, 2, 2, 1]  # the first finds the weights
