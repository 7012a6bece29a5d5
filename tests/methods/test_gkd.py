"""Generalized knowledge distillation: its divergence, its own outputs, and its teacher."""

import copy
import math
import warnings

import pytest
import torch

from freerun.losses import generalized_jsd
from freerun.methods import GKD, MLE, Clock
from freerun.methods.samples import Samples, draw_samples
from freerun.models.settings import RecurrentSettings
from freerun.randomness import uniform
from freerun.study.checks import check_plan, make_plan
from freerun.training import Objective, TrainingSettings, fit, resolve
from freerun.training.checkpoints import load_policy
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.methods.enumeration import tokens_of
from tests.models.models import text_batch, tiny_adapted
from tests.training.children import SETTINGS
from tests.training.tiny_task import Tiny
from tests.twins import scores_after

CLOCK = Clock(2, total=9, seed=3)
STUDENT = torch.tensor([[0.2, -1.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, 0.5, -2.0], [5.0, 0.0, -math.inf]], dtype=torch.float64)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_divergence_is_that_of_plain_python(beta):
    """Where the teacher's probability is 0, too: 0·log 0 = 0."""
    teacher = TEACHER if beta < 1 else TEACHER.clamp(min=-9)
    for row, found in enumerate(generalized_jsd(STUDENT, teacher, beta=beta).tolist()):
        p, q = (scores[row].softmax(-1).tolist() for scores in (teacher, STUDENT))
        m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        expected = kl(p, q) if beta == 0 else kl(q, p) if beta == 1 else None
        if expected is None:
            expected = beta * kl(p, m) + (1 - beta) * kl(q, m)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_divergence_and_its_gradient_are_those_of_trl(beta):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its GKD trainer is experimental
        trl = pytest.importorskip("trl.experimental.gkd", reason="needs trl")
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=generator) * 3
    mask = torch.arange(5) < torch.tensor([[5], [1], [3]])
    student.requires_grad_()
    labels = torch.where(mask, 1, -100)
    theirs = trl.GKDTrainer.generalized_jsd_loss(
        student, teacher, labels=labels, beta=beta, reduction="batchmean"
    )
    ours = generalized_jsd(student[mask], teacher[mask], beta=beta).sum() / mask.sum()
    close(ours, theirs)
    close(*(torch.autograd.grad(loss, student)[0] for loss in (ours, theirs)))


def test_gradients_of_small_and_large_beta_are_those_of_kl():
    """Up to the factor with which the divergence vanishes; and all are finite."""
    student = STUDENT.clone().requires_grad_()
    teacher = TEACHER.clamp(min=-2)

    def slope(beta, factor=1.0):
        total = generalized_jsd(student, teacher, beta=beta).sum() / factor
        return torch.autograd.grad(total, student)[0]

    close(slope(1e-6, 1e-6), slope(0.0), 1e-4)
    close(slope(1 - 1e-6, 1e-6), slope(1.0), 1e-4)
    total = generalized_jsd(student, TEACHER, beta=0.5).sum()
    assert torch.autograd.grad(total, student)[0].isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.9, 1.0])
def test_a_token_that_is_impossible_for_both_counts_for_nothing(beta):
    """Value and gradient are those of the other tokens alone."""
    student = STUDENT.clone().requires_grad_()
    teacher = TEACHER.clamp(min=-9)
    barred = [torch.cat([s, s.new_full((2, 1), -math.inf)], 1) for s in (student, teacher)]
    losses = [generalized_jsd(*pair, beta=beta).sum() for pair in ((student, teacher), barred)]
    close(*losses)
    close(*(torch.autograd.grad(loss, student)[0] for loss in losses))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_a_plain_loop(share):
    """At the tokens of own outputs and of targets, by a coin for each example."""
    policy, teacher = tiny_policy(4), tiny_policy(4, seed=5, attention="general")
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))
    own = uniform(CLOCK.seed, "gkd", CLOCK.step, batch.ids) < share
    assert share != 0.3 or 0 < int(own.sum()) < 5
    drawn = tokens_of(draw_samples(policy, batch, 1, CLOCK, stretch=1.5))
    expected, count = 0.0, 0
    for row in range(5):
        one = single(batch, row)
        tokens = drawn[row] if own[row] else tuple(one.target[0].tolist())
        inputs = [policy.vocabulary.bos, *tokens]
        for cell in range(len(tokens)):
            prefix = torch.tensor([inputs[: cell + 1]])
            scores = [scores_after(p, one.source, prefix)[None] for p in (policy, teacher)]
            expected = expected + generalized_jsd(*scores, beta=0.3).sum()
        count += len(tokens)
    method = GKD(teacher=teacher, share=share, beta=0.3)
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected)
    close(gradients(policy, outcome.total), gradients(policy, expected))
    assert int(outcome.count) == count
    assert not list(method.build_modules(policy).parameters())
    assert copy.deepcopy(method).teacher is teacher  # a run does not copy it


def test_a_student_like_its_teacher_has_nothing_to_learn():
    policy = tiny_policy(4)
    batch = tiny_batch(policy)
    outcome = GKD(teacher=tiny_policy(4)).loss(policy, batch, CLOCK)
    close(outcome.total, torch.zeros((), dtype=torch.float64))
    for gradient in gradients(policy, outcome.total).values():
        close(gradient, torch.zeros_like(gradient))


def test_forward_kl_to_a_sure_teacher_is_maximum_likelihood():
    """A teacher that is sure of the target, at β = 0 and on targets alone."""
    scores = torch.randn(11, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(4, (11,), generator=torch.Generator().manual_seed(1))
    sure = torch.nn.functional.one_hot(targets, 4).double() * 2000
    found = generalized_jsd(scores, sure, beta=0.0).sum()
    close(found, torch.nn.functional.cross_entropy(scores, targets, reduction="sum"))


def test_neither_padding_nor_parts_change_the_loss():
    policy, teacher = tiny_policy(4, attention="additive"), tiny_policy(4, seed=5)
    batch = tiny_batch(policy, lengths=(3, 1, 5, 2), targets=(5, 1, 3, 2))
    method = GKD(teacher=teacher)
    whole = method.loss(policy, batch, CLOCK).total
    close(method.loss(policy, padded(batch, policy.vocabulary.eos), CLOCK).total, whole)
    alone = [method.loss(policy, single(batch, row), CLOCK).total for row in range(4)]
    close(sum(alone), whole)


def test_gradients_are_those_of_finite_differences():
    teacher = tiny_policy(3, hidden_size=2, embedding_size=2, seed=3)
    gradcheck_loss(GKD(teacher=teacher, beta=0.3, share=0.6))


@pytest.mark.parametrize(("name", "shared"), [("gpt2", True), ("bart", False)])
def test_on_hugging_face_models(name, shared):
    """With dropout in the student, and a teacher that is not in training mode while it computes.

    It is left as it was, without a gradient.
    """
    policy, teacher = (
        tiny_adapted(name, shared=shared, letters="abc", dropout=0.3) for _ in range(2)
    )
    torch.nn.init.normal_(next(teacher.parameters()))
    policy.train()
    teacher.train()
    modes = set()
    for part in teacher.modules():
        part.register_forward_pre_hook(lambda part, _: modes.add(part.training))
    outcome = GKD(teacher=teacher).loss(policy, text_batch(policy), CLOCK)
    assert float(outcome.total.detach()) > 0
    outcome.total.backward()
    assert modes == {False}
    assert all(part.training for part in teacher.modules())
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    trained = Objective(policy, GKD(teacher=teacher)).parameters()
    assert len([*trained]) == len([*policy.parameters()])
    assert all(p.grad.isfinite().all() for p in policy.parameters() if p.grad is not None)


def test_own_outputs_end_where_the_positions_of_the_teacher_do():
    policy = tiny_adapted("gpt2", limit=16, seed=5)
    teacher = tiny_adapted("gpt2", n_positions=9)
    batch = text_batch(policy)
    drawn = draw_samples(policy, batch, 1, CLOCK, stretch=20.0)
    room = torch.tensor([7, 9, 6, 8])
    assert torch.equal(9 - teacher.prompt_lengths(batch.source), room)
    assert bool((drawn.mask.sum(1) > room).any())
    mask = drawn.mask & (torch.arange(drawn.mask.shape[1]) < room[:, None])
    expected = Samples(drawn.rows, drawn.tokens, mask).trim()
    scores = [expected.read(model, batch).logits(expected.mask) for model in (policy, teacher)]
    outcome = GKD(teacher=teacher, share=1.0, stretch=20.0).loss(policy, batch, CLOCK)
    close(outcome.total, generalized_jsd(*scores, beta=0.5).sum())
    assert int(outcome.count) == int(mask.sum())


def test_a_run_loads_its_teacher_from_a_folder(tmp_path, monkeypatch):
    """And is stopped before training if the two do not match; a comparison loads it once."""
    task = Tiny()
    data = task.load()

    def run(name, method, size=8):
        model = RecurrentSettings(hidden_size=size, embedding_size=6)
        training = TrainingSettings(**{**SETTINGS, "updates": 3, "evaluate_every": 3})
        output = tmp_path / name
        return fit(task, data, method, model=model, training=training, output=output, quiet=True)

    run("teacher", MLE(), size=10)
    run("student", GKD(teacher=str(tmp_path / "teacher")))
    weights = load_policy(tmp_path / "student", type(data.codec))[0].state_dict()
    assert not any("teacher" in name for name in weights)
    folders, load = [], resolve.load_matching
    monkeypatch.setattr(
        resolve, "load_matching", lambda *given: (folders.append(given[0]), load(*given))[1]
    )
    method = GKD(teacher=str(tmp_path / "teacher"))
    model, training = RecurrentSettings(hidden_size=8), TrainingSettings(**SETTINGS)
    check_plan(make_plan(task, {"gkd": method}, 1, model, training), data, [])
    assert folders == [method.teacher]
    message = "gkd needs a teacher, the folder of a trained model: set teacher"
    with pytest.raises(ValueError, match=message):
        run("none", GKD())
    with pytest.raises(ValueError, match="nowhere"):
        run("wrong", GKD(teacher=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "share is 1.5; it must be in [0, 1]"),
        ({"beta": -0.1}, "beta is -0.1; it must be in [0, 1]"),
        ({"stretch": 0.5}, "stretch is 0.5; it must be at least 1"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        GKD(**settings)


def test_a_teacher_with_another_vocabulary_is_refused():
    with raises(ValueError, "the teacher of gkd has another vocabulary than the student"):
        GKD(teacher=tiny_policy(3)).check(tiny_policy(4).vocabulary)
    message = (
        "the teacher 'runs/x' is not loaded: train with freerun.training, or give the policy itself"
    )
    with raises(ValueError, message):
        GKD(teacher="runs/x").check(tiny_policy(4).vocabulary)
