"""Self-distillation: its hint, its teacher, and the warm-up in which a model learns to use both."""

import pytest
import torch

from freerun.losses import generalized_jsd
from freerun.methods import MLE, OCD, Clock, Modules, SelfDistillation
from freerun.methods.samples import draw_samples
from freerun.models.settings import RecurrentSettings
from freerun.policy import Trace
from freerun.randomness import uniform
from freerun.references import optimal_tokens
from freerun.tasks import Digits, load_data
from freerun.training.resolve import resolve
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.methods.enumeration import tokens_of
from tests.models.models import text_batch, tiny_adapted
from tests.twins import scores_after

CLOCK = Clock(6, total=9, seed=3)
TASK = Digits(train_size=20, dev_size=5, test_size=5)
LATER = {"warm_up": 0.0, "decay": 0.0}


def batch_of(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


@pytest.mark.parametrize(("hint", "counts"), [(1.0, (4, 0, 2, 1, 3)), (0.5, (2, 0, 1, 1, 2))])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_loss_is_that_of_a_plain_loop(hint, counts, share):
    """The teacher reads so many tokens of the reference, then eos, then the output."""
    policy = tiny_policy(4, attention="additive")
    batch, words = batch_of(policy), policy.vocabulary
    own = uniform(CLOCK.seed, "self_distillation", CLOCK.step, batch.ids) < share
    drawn = tokens_of(draw_samples(policy, batch, 1, CLOCK, stretch=1.5))
    expected, count = 0.0, 0
    for row in range(5):
        one = single(batch, row)
        target = one.target[0].tolist()
        tokens = list(drawn[row]) if own[row] else target
        context = [words.bos, *target[: counts[row]], words.eos]
        for cell in range(len(tokens)):
            plain = torch.tensor([[words.bos, *tokens[:cell]]])
            hinted = torch.tensor([context + tokens[:cell]])
            scores = scores_after(policy, one.source, plain)[None]
            wanted = scores_after(policy, one.source, hinted)[None].detach()
            expected = expected + generalized_jsd(scores, wanted, beta=0.3).sum()
        count += len(tokens)
    method = SelfDistillation(**LATER, hint=hint, share=share, beta=0.3)
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected)
    close(gradients(policy, outcome.total), gradients(policy, expected))
    assert int(outcome.count) == count


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_without_a_hint_there_is_nothing_to_learn(decay):
    policy = tiny_policy(4)
    method = SelfDistillation(warm_up=0.0, decay=decay, hint=0.0)
    outcome = method.loss(policy, batch_of(policy), CLOCK, method.build_modules(policy))
    close(outcome.total, torch.zeros((), dtype=torch.float64))


class Knowing(Trace):
    """Finds the best next tokens by comparing what is read after the hint with the hint.

    All others are impossible.
    """

    def __init__(self, vocabulary, inputs):
        self.vocabulary, self.inputs = vocabulary, inputs

    def fork(self, rows, cells):
        raise AssertionError

    def logits(self, cells):
        eos, actions, scores = self.vocabulary.eos, self.vocabulary.actions, []
        for row, cell in cells.nonzero().tolist():
            read = self.inputs[row, 1 : cell + 1].tolist()
            end = read.index(eos)
            hint, own = read[:end], read[end + 1 :]
            best = optimal_tokens(
                torch.tensor([own or [0]]), torch.tensor([len(own)]),
                torch.tensor([hint or [0]]), torch.tensor([len(hint)]), actions, eos,
            )  # fmt: skip
            scores.append(torch.zeros(actions).double().masked_fill(~best[0], -torch.inf))
        return torch.stack(scores)


def test_a_teacher_that_always_knows_is_optimal_completion_distillation():
    """At β = 0, up to a constant: on the same samples, with the same gradient."""
    policy = tiny_policy(4)
    batch, teacher = batch_of(policy), tiny_policy(4)
    teacher.force = lambda source, inputs: Knowing(policy.vocabulary, inputs)
    method = SelfDistillation(warm_up=0.0, beta=0.0)
    found = method.loss(policy, batch, CLOCK, Modules(frozen={"teacher": teacher}))
    expected = OCD(feedback="sample").loss(policy, batch, CLOCK)
    assert 0 < float(found.total.detach()) <= float(expected.total.detach())
    close(gradients(policy, found.total), gradients(policy, expected.total))


def test_the_warm_up_is_log_loss_with_the_hint_and_without():
    policy = tiny_policy(4, attention="general")
    batch, words = batch_of(policy), policy.vocabulary
    clock = Clock(2, total=9, seed=3)
    hinted = uniform(clock.seed, "hint", clock.step, batch.ids) < 0.5
    assert 0 < int(hinted.sum()) < 5
    expected = 0.0
    for row in range(5):
        one = single(batch, row)
        target = one.target[0].tolist()
        context = [words.bos, *(target if hinted[row] else [])]  # the last of which is eos
        for cell, token in enumerate(target):
            scores = scores_after(policy, one.source, torch.tensor([context + target[:cell]]))
            expected = expected - scores.log_softmax(-1)[token]
    method = SelfDistillation(warm_up=0.5)
    outcome = method.loss(policy, batch, clock)
    close(outcome.total, expected)
    assert int(outcome.count) == 15
    unhinted = SelfDistillation(warm_up=0.5, hint=0.0).loss(policy, batch, clock)
    assert torch.equal(unhinted.total, MLE().loss(policy, batch, clock).total)


@pytest.mark.parametrize(("decay", "expected"), [(1.0, 4.0), (0.9, 0.9 * 4 + 0.1 * 5)])
def test_the_teacher_is_a_moving_average_after_the_warm_up(decay, expected):
    """It is the model at the end of the warm-up at first, and never in training mode."""
    policy = tiny_policy(3)
    method = SelfDistillation(warm_up=0.4, decay=decay)
    modules = method.build_modules(policy).train()
    assert not modules["teacher"].training
    assert list(modules.trained) == []
    for step in range(5):
        for parameter in policy.parameters():
            torch.nn.init.constant_(parameter, float(step + 1))
        method.after_update(policy, Clock(step, total=10), modules)
    for parameter in modules["teacher"].parameters():
        close(parameter, torch.full_like(parameter, expected))
    names = set(policy.state_dict())
    assert {f"frozen.teacher.{name}" for name in names} == set(modules.state_dict())
    assert not list(SelfDistillation(decay=0.0).build_modules(policy).parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_moving_average_of_a_model_in_half_precision(dtype):
    """Steps are far below the precision of the model."""
    policy = tiny_policy(3).to(dtype)
    method = SelfDistillation(warm_up=0.0, decay=0.999)
    for parameter in policy.parameters():
        torch.nn.init.constant_(parameter, 1.0)
    modules = method.build_modules(policy)
    for parameter in policy.parameters():
        torch.nn.init.constant_(parameter, 2.0)
    for step in range(100):
        method.after_update(policy, Clock(step + 1, total=200), modules)
    for parameter in modules["teacher"].parameters():
        close(parameter, torch.full_like(parameter, 2 - 0.999**100), 1e-5)
    fixed = SelfDistillation(decay=1.0).build_modules(policy)
    assert {parameter.dtype for parameter in fixed.parameters()} == {dtype}


@pytest.mark.parametrize("name", ["recurrent", "gpt2", "t5"])
def test_the_loss_of_a_model_in_half_precision(name):
    policy = tiny_policy(4) if name == "recurrent" else tiny_adapted(name, letters="abc")
    batch = batch_of(policy) if name == "recurrent" else text_batch(policy)
    policy.bfloat16()
    method = SelfDistillation(warm_up=0.0, decay=0.9)
    outcome = method.loss(policy, batch, CLOCK, method.build_modules(policy))
    outcome.total.backward()
    assert all(p.grad.isfinite().all() for p in policy.parameters() if p.grad is not None)
    assert any(p.grad.any() for p in policy.parameters() if p.grad is not None)


def test_neither_padding_nor_parts_change_the_loss():
    policy = tiny_policy(4, attention="additive")
    batch = batch_of(policy)
    for clock in (Clock(0, 9, 3), CLOCK):
        method = SelfDistillation(warm_up=0.5, decay=0.0, hint=0.7, share=0.6)
        whole = method.loss(policy, batch, clock).total
        close(method.loss(policy, padded(batch, policy.vocabulary.eos), clock).total, whole)
        alone = [method.loss(policy, single(batch, row), clock).total for row in range(5)]
        close(sum(alone), whole)


def test_gradients_are_those_of_finite_differences():
    """The teacher is a constant, so it must not be the model itself."""
    method = SelfDistillation(warm_up=0.0, beta=0.3)
    modules = method.build_modules(tiny_policy(3, hidden_size=2, embedding_size=2, scale=0.8))

    class Bound(SelfDistillation):
        def loss(self, policy, batch, clock):
            return super().loss(policy, batch, clock, modules)

    gradcheck_loss(Bound(warm_up=0.0, beta=0.3))


@pytest.mark.parametrize(("name", "shared"), [("gpt2", True), ("bart", False), ("t5", True)])
def test_on_hugging_face_models(name, shared):
    """With dropout in the student, and examples alone as in the batch."""
    policy = tiny_adapted(name, shared=shared, letters="abc", dropout=0.3)
    batch = text_batch(policy)
    method = SelfDistillation(warm_up=0.0)
    modules = method.build_modules(policy)
    total = method.loss(policy, batch, CLOCK, modules).total
    alone = sum(method.loss(policy, single(batch, row), CLOCK, modules).total for row in range(4))
    torch.testing.assert_close(total, alone)
    policy.train()
    method.loss(policy, batch, CLOCK, modules).total.backward()
    assert policy.training
    assert all(p.grad.isfinite().all() for p in policy.parameters() if p.grad is not None)


def test_a_template_surrounds_the_reference():
    model = RecurrentSettings(hidden_size=4, embedding_size=4)
    symbols = load_data(TASK).codec.target.symbols
    first, second = [symbol for symbol in symbols if len(symbol) == 1][:2]
    run = resolve(model, TASK, SelfDistillation(template=f"{first}{{reference}}{second}{first}"))
    words = run.codec.target
    batch = run.train.batch([0])
    tokens, lengths = run.method.build_hint(batch, words).join()
    text = batch.target[0, : batch.lengths[0] - 1].tolist()
    one, two = symbols.index(first), symbols.index(second)
    assert tokens[0, : lengths[0]].tolist() == [one, *text, two, one]


def test_a_hint_is_cut_where_there_is_no_room():
    policy = tiny_adapted("gpt2", letters="abc")
    batch = text_batch(policy)
    method = SelfDistillation(**LATER, share=0.0)
    assert float(method.loss(policy, batch, CLOCK).total.detach()) > 0
    policy.max_positions = int((policy.prompt_lengths(batch.source) + batch.lengths).min())
    assert float(method.loss(policy, batch, CLOCK).total.detach()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hint": 1.5}, "hint is 1.5; it must be in [0, 1]"),
        ({"decay": -1.0}, "decay is -1.0; it must be in [0, 1]"),
        ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
        ({"beta": 2.0}, "beta is 2.0; it must be in [0, 1]"),
        ({"template": "Hint:"}, "template is 'Hint:'; it must have one {reference}"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        SelfDistillation(**settings)


def test_what_cannot_have_a_hint_is_told():
    message = "self_distillation needs outputs that end in eos, which another output can follow"
    with raises(ValueError, message):
        SelfDistillation().check(tiny_policy(4, eos=False).vocabulary)
    policy = tiny_policy(4)
    with raises(ValueError, "template is text; call for_codec first"):
        method = SelfDistillation(template="a{reference}", **LATER)
        method.loss(policy, tiny_batch(policy), CLOCK)
    run = SelfDistillation(template="§{reference}")
    with raises(ValueError, "template is '§{reference}'; the vocabulary lacks some of its tokens"):
        run.for_codec(load_data(TASK).codec)
