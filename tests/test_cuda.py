"""On a GPU everything computes what it does on the CPU: on a simulated one, and on a real one.

`make gpu` runs the tests that need a real one, for every method and every kind of model. Those of
the simulated GPU take each method and each kind a few times.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from freerun.batch import Batch
from freerun.decoding import (
    Decoded,
    NoisySampler,
    backtrack,
    beam_search_n_best,
    choose_greedily,
    contrastive_search,
    greedy,
    sample,
)
from freerun.evaluation import (
    measure_accumulated_errors,
    measure_exposure_bias,
    teacher_forced_loss,
)
from freerun.methods import (
    GKD,
    ActorCritic,
    AnswerCorrection,
    BehaviorCloning,
    Clock,
    OfflineScheduledSampling,
    Reinforce,
    ScheduledSampling,
    SelfDistillation,
    SequenceMatch,
)
from freerun.models.huggingface import adapt
from freerun.training.objective import draw_modules
from freerun.vocabulary import Vocabulary
from tests.helpers import close, gradients, tiny_batch, tiny_policy
from tests.methods.test_invariances import ALL as METHODS
from tests.methods.test_invariances import COSTS
from tests.models.erasing import erasing_policy
from tests.models.media import WORDS, media_batch, tiny_media, tiny_media_model
from tests.models.models import text_batch, tiny_adapted, tiny_model, words_of
from tests.pages import ROOT
from tests.simulated_cuda import simulate_cuda
from tests.training.huggingface import trainer
from tests.training.tiny_models import tiny_model as training_model

CLOCK = Clock(2, total=9, seed=3)
TARGETS = (5, 1, 3, 2, 4)
RECURRENT = {
    "gru": {"attention": "additive", "input_feeding": True, "bidirectional": True},
    "lstm": {"cell": "lstm", "layers": 2, "source": "factors"},
    "no eos": {"eos": False, "attention": "aligned", "source": "real"},
}
TEXT = ("gpt2", "llama", "bart", "t5")
MEDIA = ("vit-gpt2", "whisper")
MODELS = (*RECURRENT, *TEXT, *MEDIA)
PAIRS = [(method, model) for method in METHODS for model in MODELS]
real = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def params(values, simulated=None):
    """Parameters for both devices: on the simulated one only the cases `simulated`."""
    chosen = values if simulated is None else simulated
    return pytest.mark.parametrize(
        ("device", "case"),
        [("simulated", value) for value in chosen]
        + [pytest.param("cuda", value, marks=[pytest.mark.cuda, real]) for value in values],
        ids=lambda value: value if isinstance(value, str) else "-".join(value),
    )


def gpu(name):
    """The context in which tensors can be moved to the device."""
    return simulate_cuda() if name == "simulated" else nullcontext(torch.device("cuda"))


def make(model):
    """A policy and a batch of it."""
    if model in RECURRENT:
        policy = tiny_policy(4, **RECURRENT[model])
        return policy, tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=TARGETS)
    if model in MEDIA:
        policy = tiny_media(model)
        return policy, media_batch(policy)
    policy = tiny_adapted(model, letters="abc", attention="sdpa")
    return policy, text_batch(policy, lengths=(3, 1, 5, 2, 4), targets=TARGETS)


def move(policy, batch, device):
    tensors = {name: tensor.to(device) for name, tensor in batch.tensors().items()}
    return copy.deepcopy(policy).to(device), Batch.from_tensors(tensors)


def on_cpu(value):
    """The value with its tensors on the CPU, as dictionaries that can be compared."""
    if isinstance(value, Decoded):
        value = {"tokens": value.tokens, "lengths": value.lengths}
    if isinstance(value, dict):
        return {name: on_cpu(each) for name, each in value.items()}
    if isinstance(value, list):
        return [on_cpu(each) for each in value]
    return value.cpu() if isinstance(value, torch.Tensor) else value


def check(run, policy, batch, device, tolerance=1e-9):
    """`run(policy, batch)` returns the same on the device as on the CPU."""
    expected = on_cpu(run(policy, batch))
    with gpu(device) as where:
        found = on_cpu(run(*move(policy, batch, where)))
    if isinstance(expected, dict):
        close(found, expected, tolerance)
    else:
        assert found == expected


def loss_of(method):
    def run(policy, batch):
        outcome = method.loss(policy, batch, CLOCK)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}

    return run


@params(PAIRS, [PAIRS[(number * 10) % len(PAIRS)] for number in range(len(METHODS))])
def test_losses_and_gradients(device, case):
    method, model = case
    check(loss_of(METHODS[method]), *make(model), device)


STATEFUL = {
    "learned baseline": Reinforce(**COSTS, samples=2, baseline="learned"),
    "critic": ActorCritic(**COSTS, critic_size=5),
    "moving teacher": SelfDistillation(warm_up=0.0, decay=0.5),
    "teacher": GKD(share=0.5),
    "buffer": OfflineScheduledSampling(period=1, schedule="constant", k=0.4),
    "corrected answers": AnswerCorrection(period=1, share=0.6),
}


@params(
    [(method, model) for method in STATEFUL for model in MODELS if model != "no eos"],
    [(method, model) for method, model in zip(STATEFUL, (*TEXT, "gru", "whisper"), strict=True)],
)
def test_losses_of_methods_that_keep_modules_and_outputs(device, case):
    name, model = case

    def run(policy, batch):
        method = copy.deepcopy(STATEFUL[name])
        if name == "teacher":  # stays on the CPU until it is needed
            teacher = copy.deepcopy(policy).cpu()
            next(teacher.parameters()).data.mul_(1.5)
            method = dataclasses.replace(method, teacher=teacher)
        modules = draw_modules(method, policy, seed=1).to(policy.device, torch.float64)
        for step in range(2):  # what the first update draws and keeps, the second uses
            outcome = method.loss(policy, batch, Clock(step, total=9, seed=3), modules)
            method.after_update(policy, Clock(step, total=9, seed=3), modules)
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}

    check(run, *make(model), device)


@pytest.mark.parametrize("method", [BehaviorCloning(), SequenceMatch(warm_up=0.0, anneal=0.0)])
@params(["lstm", "gpt2", "bart"])
def test_losses_of_methods_with_a_backspace(device, case, method):
    policy = erasing_policy(case)
    words = policy.vocabulary
    batch = (tiny_batch if case == "lstm" else text_batch)(policy)
    target = batch.target.where(batch.target != words.backspace, 0 if case == "lstm" else 3)
    batch = Batch(batch.ids, batch.source, target, batch.mask)

    def run(policy, batch):
        own = copy.deepcopy(method)
        for step in range(2):  # what the first update draws and keeps, the second uses
            outcome = own.loss(policy, batch, Clock(step, total=9, seed=3))
            own.after_update(policy, Clock(step, total=9, seed=3))
        return {"loss": outcome.total.detach(), **gradients(policy, outcome.total)}

    check(run, policy, batch, device)


DECODERS = {
    "greedy": lambda policy, batch: greedy(policy, batch.source),
    "sample": lambda policy, batch: sample(
        policy, batch.source, ids=batch.ids, seed=1, top_k=3, top_p=0.9
    ),
    "beam": lambda policy, batch: [
        [each.tokens for each in row]
        for row in beam_search_n_best(policy, batch.source, size=3, count=2)
    ],
    "contrastive": lambda policy, batch: contrastive_search(
        policy, batch.source, top_k=2, penalty=0.5
    ),
}


@params(
    [(decoder, model) for decoder in DECODERS for model in MODELS],
    [("greedy", "lstm"), ("sample", "gpt2"), ("beam", "bart"), ("contrastive", "llama"),
     ("sample", "no eos"), ("greedy", "whisper")],
)  # fmt: skip
def test_decoding(device, case):
    decoder, model = case
    if decoder == "contrastive" and model in (*RECURRENT, *MEDIA):
        pytest.skip("is tested on models of text")
    check(DECODERS[decoder], *make(model), device)


def capture(policy, batch):
    """A copy of a policy on the GPU, with captured steps, and its batch."""
    other, moved = move(policy, batch, torch.device("cuda"))
    other.capture_steps()
    return other, moved


CAPTURED = ("gpt2", "llama", "mistral", "t5", "bart", "whisper", *RECURRENT)


@pytest.mark.cuda
@real
@pytest.mark.parametrize("model", CAPTURED)
def test_captured_steps(model):
    """In graphs, before and after an update; those without are in tests/models."""
    policy, batch = make(model)
    other, moved = capture(policy, batch)
    for _ in range(2):
        for decoder in ("greedy", "sample"):
            found, expected = DECODERS[decoder](other, moved), DECODERS[decoder](policy, batch)
            assert torch.equal(found.tokens.cpu(), expected.tokens)
        assert any(step.replay for step in other.static_steps.idle)
        with torch.no_grad():
            for one, same in zip(policy.parameters(), other.parameters(), strict=True):
                same.copy_(one.mul_(1.5))


@pytest.mark.cuda
@real
@pytest.mark.parametrize("model", CAPTURED)
def test_roll_outs_by_captured_steps(model):
    policy, batch = make(model)
    other, moved = capture(policy, batch)
    run = loss_of(METHODS["searched"])
    for _ in range(2):  # again with the graphs of the first time
        close(on_cpu(run(other, moved)), on_cpu(run(policy, batch)), 1e-9)


@pytest.mark.cuda
@real
@pytest.mark.parametrize("model", ["gru", "input-feeding", "gpt2", "bart"])
def test_backspaces_by_captured_steps(model):
    policy = erasing_policy(model)
    batch = (text_batch if model in TEXT else tiny_batch)(policy)
    other, moved = capture(policy, batch)
    found, expected = (
        backtrack(one, rows.source, choose_greedily)
        for one, rows in ((other, moved), (policy, batch))
    )
    assert torch.equal(found.actions.cpu(), expected.actions)


@pytest.mark.cuda
@real
@pytest.mark.parametrize("model", ["llama", "t5", "gru"])
def test_captured_steps_in_mixed_precision(model):
    """A graph of autocast, beside one without, follows weights that are trained."""
    policy, batch = make(model)
    policy, moved = move(policy.float(), batch, torch.device("cuda"))
    other = copy.deepcopy(policy)
    other.capture_steps()
    for _ in range(2):
        for inside in (True, False):
            with torch.autocast("cuda", torch.bfloat16, enabled=inside):
                one, two = greedy(policy, moved.source), greedy(other, moved.source)
            close(two.log_probs, one.log_probs, 5e-2 if inside else 1e-4)
        with torch.no_grad():
            for one, same in zip(policy.parameters(), other.parameters(), strict=True):
                same.copy_(one.mul_(1.1))


@params(["gru", "input-feeding", "gpt2", "llama", "bart"])
def test_backspaces(device, case):
    policy = erasing_policy(case)
    batch = (text_batch if case in TEXT else tiny_batch)(policy)

    def run(policy, batch):
        words = policy.vocabulary
        noise = NoisySampler(choose_greedily, words, rate=0.3, ids=batch.ids, seed=2)
        return {
            "greedy": on_cpu(backtrack(policy, batch.source, choose_greedily)),
            "noisy": on_cpu(backtrack(policy, batch.source, noise, forbid_repeats=True)),
        }

    check(run, policy, batch, device)


class Rows:
    """A batch as a set of examples, which are read on the CPU."""

    def __init__(self, policy, batch):
        rows = zip(batch.target.tolist(), batch.lengths.tolist(), strict=True)
        end = policy.vocabulary.eos is not None
        self.all, self.references = batch, [row[: length - end] for row, length in rows]

    def __len__(self):
        return len(self.references)

    def batch(self, numbers, epoch=0):
        return self.all.select(torch.as_tensor(numbers))


@params(["gru", "gpt2", "bart"])
def test_diagnosis_and_evaluation(device, case):
    policy, batch = make(case)
    rows = Rows(policy, batch)

    def run(policy, batch):
        return [
            str(measure_exposure_bias(policy, rows, draws=20)),
            str(measure_accumulated_errors(policy, policy, rows, draws=20)),
            round(teacher_forced_loss(policy, rows), 9),
        ]

    check(run, policy, batch, device)


@params(["gpt2", "bart", "whisper"])
def test_probe_of_a_model_that_is_on_the_device(device, case):
    """`adapt` compares scores with the model's own, where the model is."""
    with gpu(device) as where:
        if case == "whisper":
            adapt(tiny_media_model(case).to(where), WORDS, limit=6)
        else:
            adapt(tiny_model(case).to(where), words_of(case), limit=6, shared=True)


@params(["lstm"])
def test_large_vocabulary_in_single_precision(device, case):
    """Products in bfloat16 bound the argmax, which stays exact."""
    words = Vocabulary.build([str(number) for number in range(1200)], eos=True)
    policy = tiny_policy(words=words, cell=case, hidden_size=16, limit=6).float()
    check(DECODERS["greedy"], policy, tiny_batch(policy), device)


def train(output, **settings):
    """A few updates on the GPU if there is one, else on the CPU; what was logged, and weights."""
    gpu = torch.cuda.is_available()
    model = training_model("gpt2", dropout=0.1)
    own = trainer(output, model, use_cpu=not gpu, logging_steps=3, **settings)
    resumed = any(output.glob("checkpoint-*"))
    own.train(resume_from_checkpoint=resumed or None)
    assert model.device.type == ("cuda" if gpu else "cpu")
    losses = [entry["loss"] for entry in own.state.log_history if "loss" in entry]
    return losses, {name: value.cpu() for name, value in own.model.state_dict().items()}


@pytest.mark.cuda
def test_a_resumed_run_continues_where_it_was_stopped(tmp_path):
    losses, weights = train(tmp_path / "whole")
    settings = {"save_strategy": "steps", "save_steps": 3}
    train(tmp_path / "cut", **settings)
    shutil.rmtree(tmp_path / "cut" / "checkpoint-6")
    found, resumed = train(tmp_path / "cut", **settings)
    # A GPU may add in another order.
    assert found == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(resumed, weights, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_mixed_precision_follows_single_precision(tmp_path):
    method = ScheduledSampling(schedule="constant", k=1.0)
    losses, _ = train(tmp_path / "single", method=method)
    mixed, _ = train(tmp_path / "mixed", method=method, bf16=True)
    assert mixed != losses
    assert mixed == pytest.approx(losses, rel=0.02)


def test_the_simulated_gpu_refuses_what_a_real_one_refuses():
    with simulate_cuda() as device:
        values, indices = torch.arange(3.0, device=device), torch.tensor([0, 2])
        assert values[indices].tolist() == [0.0, 2.0]
        assert (values + torch.tensor(1.0)).tolist() == [1.0, 2.0, 3.0]
        for run in (
            lambda: values + torch.ones(3),
            lambda: values.gather(0, indices),
            lambda: indices[values.long()],
            lambda: torch.cat([values, torch.ones(1)]),
        ):
            with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
                run()
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            values.numpy()


@pytest.mark.slow
def test_make_gpu_without_a_gpu(tmp_path):
    """The script that `make gpu` runs; it keeps the figures of each benchmark, and the tests."""
    figures = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--quick"]
    command += ["--only", "recurrent", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "all ran"
    assert "2 passed" in done.stdout.splitlines()[0]
    found = json.loads(figures.read_text())
    assert found["device"] == "cpu"
    assert found["recurrent/greedy_vs_plain"] > 0
