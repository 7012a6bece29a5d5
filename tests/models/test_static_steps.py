"""Static steps write what other steps write, also when they are captured.

CUDA graphs are replaced by functions that compute again from the same addresses, into the same
output, so that whatever a graph would not see, or would overwrite, is seen here.
"""

import copy
import shutil
import subprocess
import sys

import pytest
import torch

from freerun.decoding import backtrack, choose_greedily, greedy, sample
from freerun.models.huggingface import steps
from freerun.models.huggingface.steps import round_rows, round_slots
from tests.helpers import close, raises, written
from tests.models.erasing import erasing_policy
from tests.models.models import text_batch, text_source, tiny_adapted
from tests.pages import ROOT

KINDS = [("gpt2", True), ("llama", False), ("opt", True), ("gpt_neox", False)]
LENGTHS = (3, 1, 4, 2, 5, 6, 2, 3, 1)
LIMITS = torch.tensor([9, 2, 5, 1, 9, 3, 4, 7, 9])
"""Rows are dropped at several cells."""


@pytest.fixture(params=["captured", "as-they-are"])
def graphs(request, monkeypatch):
    """Captures on the CPU, and buffers that have to grow."""
    monkeypatch.setattr(steps, "MIN_SLOTS", 2)
    if request.param == "captured":
        monkeypatch.setattr(steps, "CAPTURES", ("cpu",))
        monkeypatch.setattr(steps, "capture", capture)


def capture(function, device):
    with torch.no_grad():
        output = function()

    def replay():
        return output.copy_(function())

    return replay


def both(policy):
    """The policy, and a copy with static steps."""
    other = copy.deepcopy(policy)
    other.capture_steps()
    return policy, other


@pytest.mark.parametrize(("name", "shared"), KINDS)
def test_decoding(graphs, name, shared):
    plain, static = both(tiny_adapted(name, shared=shared, letters="abcd", limit=9))
    source = text_source(plain, LENGTHS, seed=1)
    ids, found = torch.arange(len(LENGTHS)), []
    for policy in (plain, static, static):  # again with buffers and graphs of the first time
        found.append(greedy(policy, source, limit=LIMITS))
        found.append(sample(policy, source, ids=ids, seed=3, limit=LIMITS, keep_scores=True))
    for one, other in zip(found[:2] * 2, found[2:], strict=True):
        assert torch.equal(one.tokens, other.tokens)
        close(other.log_probs, one.log_probs, 1e-5)
    close(found[3].scores, found[1].scores, 1e-5)
    assert static.static_steps.idle
    assert plain.static_steps is None


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_states_that_are_continued_twice(graphs, name):
    plain, static = both(tiny_adapted(name, limit=9))
    source, found = text_source(plain, (3, 1, 4), seed=1), []
    for policy in (plain, static):
        hidden, state = [], policy.start(source)
        _, state = policy.advance(state, torch.tensor([3, 4, 5]))
        for tokens in ([4, 5, 6], [6, 3, 4]):
            one, after = policy.advance(state, torch.tensor(tokens))
            other, last = policy.advance(after, torch.tensor(tokens))
            again, _ = policy.advance(after, torch.tensor([3, 3, 3]))
            some, _ = policy.advance(
                last.select(torch.tensor([2, 0, 0, 1, 2])), torch.full((5,), 4)
            )
            hidden += [one, other, again, some]
        found.append(torch.cat(hidden))
    close(found[1], found[0], 1e-5)


@torch.no_grad()
def test_writers_of_forks(graphs):
    """Roll-outs, from cells of rows that were read in one pass."""
    plain, static = both(tiny_adapted("llama", limit=9))
    batch, rows = text_batch(plain, lengths=(3, 1, 4), targets=(4, 5, 3)), torch.arange(6) % 3
    inputs = torch.cat(
        [torch.full_like(batch.target[:, :1], plain.vocabulary.bos), batch.target], 1
    )
    inputs = inputs[:, :-1]
    found = []
    for policy in (plain, static):
        trace, writer = policy.force(batch.source, inputs), policy.writer()
        writer.begin(
            trace.fork(rows, torch.tensor([0, 1, 2, 2, 0, 1])), rows.new_tensor([*range(6), 0, 3])
        )
        tokens, written_tokens = torch.full((8,), 4), []
        for step in range(5):
            tokens = writer.write(tokens)
            written_tokens.append(tokens)
            if step == 2:
                writer.keep(torch.tensor([7, 2, 3]))
                tokens = tokens[[7, 2, 3]]
        found.append(torch.cat(written_tokens))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_backspaces(graphs, name):
    plain, static = both(erasing_policy(name))
    source = text_source(plain, LENGTHS)
    found = [backtrack(policy, source, choose_greedily) for policy in (plain, static)]
    assert torch.equal(found[0].actions, found[1].actions)
    assert torch.isin(found[0].actions, plain.vocabulary.backspace).any()


def test_weights_that_are_trained_and_slots_that_hold_nan(graphs):
    plain, static = both(tiny_adapted("gpt2", limit=9))
    source = text_source(plain, LENGTHS, seed=1)
    before = greedy(static, source)
    for step in static.static_steps.idle:
        for keys, values in step.layers:
            keys.fill_(torch.nan)
            values.fill_(torch.nan)
    idle = len(static.static_steps.idle)
    with torch.no_grad():
        for policy in (plain, static):
            torch.manual_seed(5)
            for weight in policy.parameters():
                weight.add_(torch.randn_like(weight))
    one, other = greedy(plain, source), greedy(static, source)
    assert torch.equal(one.tokens, other.tokens)
    assert written(before) != written(one)
    assert len(static.static_steps.idle) >= idle


def test_other_passes_do_not_use_them():
    plain, static = both(tiny_adapted("gpt2", limit=9))
    source = text_source(plain, (3, 2))
    for policy in (plain, static):
        policy.train()
    state, other = plain.start(source), static.start(source)
    one, _ = plain.step(state, torch.tensor([3, 4]))
    two, after = static.step(other, torch.tensor([3, 4]))
    assert torch.equal(one, two)
    assert two.requires_grad
    assert not isinstance(after.past.store, steps.StaticStore)


def test_buffers_are_not_kept_without_end(monkeypatch):
    monkeypatch.setattr(steps, "MAX_IDLE_BYTES", 1)
    _, static = both(tiny_adapted("gpt2", limit=9))
    greedy(static, text_source(static, LENGTHS))
    assert not static.static_steps.idle


@pytest.mark.parametrize("name", ["t5", "bart", "mistral"])
def test_models_whose_steps_cannot_be_captured(name):
    policy = tiny_adapted(name)
    message = (
        f"steps of {type(policy.inner).__name__} cannot be captured: only those of causal models "
        "with absolute or rotary positions and without a window can"
    )
    with raises(ValueError, message):
        policy.capture_steps()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["dynamic", "longrope", "linear"])
def test_steps_that_wait_for_the_device_are_refused(kind, attention):
    """They compare positions with a number; a graph would fail, and only on a GPU."""
    angles = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    if kind == "longrope":
        factors = {"short_factor": [1.0, 1.0], "long_factor": [2.0, 3.0]}
        angles |= {"original_max_position_embeddings": 32, **factors}
    policy = tiny_adapted("llama", rope_parameters=angles, attention=attention)
    if kind != "dynamic":
        policy.capture_steps()
        return
    message = (
        "steps of LlamaForCausalLM cannot be captured: they read values of the device "
        "(_local_scalar_dense), as those with dynamic rotary angles do"
    )
    with raises(ValueError, message):
        policy.capture_steps()


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (lambda slot: slot.item(), "_local_scalar_dense"),
        (lambda slot: slot[slot > 0], "index"),
        (lambda slot: slot + torch.tensor(1), "lift_fresh"),
        (lambda slot: (slot > 0).nonzero(), "nonzero"),
        (lambda slot: slot.repeat_interleave(slot), "repeat_interleave"),
        (lambda slot: slot.unique(), "_unique2"),
        (lambda slot: slot.unique_consecutive(), "unique_consecutive"),
        (lambda slot: slot.bincount(), "bincount"),
    ],
)
def test_what_waits_for_the_device_is_found(monkeypatch, read, name):
    policy = tiny_adapted("gpt2")
    plain = steps.read_slot

    def reading(policy, tokens, positions, slot, *rest):
        read(slot)
        return plain(policy, tokens, positions, slot, *rest)

    assert steps.find_host_reads(policy) == set()
    monkeypatch.setattr(steps, "read_slot", reading)
    assert steps.find_host_reads(policy) == {name}


COMPILED = """
import copy, sys, torch
from freerun.decoding import greedy
from tests.models.models import text_source, tiny_adapted
plain = tiny_adapted("llama", limit=5)
static = copy.deepcopy(plain)
static.capture_steps(backend=sys.argv[1])
source = text_source(plain, (3, 1, 4), seed=1)
assert torch.equal(greedy(plain, source).tokens, greedy(static, source).tokens)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_steps_are_compiled(backend):
    """In a process without checks of shapes, which cannot be compiled."""
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("needs a compiler")
    subprocess.run([sys.executable, "-c", COMPILED, backend], cwd=ROOT, check=True)


def test_rounding():
    assert [round_rows(n) for n in (1, 5, 8, 9, 16, 17, 33, 49, 100)] == [
        1, 5, 8, 10, 16, 20, 40, 56, 112
    ]  # fmt: skip
    assert [round_slots(n) for n in (1, 64, 65, 129)] == [64, 64, 128, 256]
