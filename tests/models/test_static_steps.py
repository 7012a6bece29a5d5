"""Static steps write what other steps write, also when they are captured.

CUDA graphs are replaced by functions that compute again from the same addresses, into the same
outputs (see `tests.models.static`).
"""

import copy
import pickle
import shutil
import subprocess
import sys

import pytest
import torch

from freerun.decoding import backtrack, beam_search, choose_greedily, greedy, sample
from freerun.methods import SEARNN
from freerun.methods.base import Clock
from freerun.models import steps
from freerun.models.huggingface import CausalPolicy
from freerun.models.huggingface import steps as cache_steps
from freerun.models.recurrent import steps as recurrent_steps
from freerun.models.steps import find_host_reads, round_positions, round_rows
from tests.helpers import close, raises, searnn, tiny_batch, tiny_source, written
from tests.models import static
from tests.models.erasing import SHARED, erasing_policy
from tests.models.kinds import KINDS, policy_of
from tests.models.kinds import name as name_of
from tests.models.models import text_source, tiny_adapted
from tests.models.static import both, make, source_of
from tests.pages import ROOT

LENGTHS = (3, 1, 4, 2, 5, 6, 2, 3, 1)
LIMITS = torch.tensor([9, 2, 5, 1, 9, 3, 4, 7, 9])
"""Rows are dropped at several cells."""
FEW = ["gpt2", "llama", "mistral", "t5", "bart", "whisper", "lstm", "fed", "aligned"]
"""Those that differ in what a step does; the others are tried with the slow tests."""


@pytest.fixture
def graphs(monkeypatch):
    """Captures on the CPU, and buffers that have to grow."""
    static.patch(monkeypatch, captures=True)


@pytest.mark.parametrize(
    ("name", "captures"),
    [(name, True) for name in FEW]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in static.ALL if name not in FEW]
    + [(name, False) for name in ("gpt2", "bart", "lstm")],
)
def test_decoding(monkeypatch, name, captures):
    static.patch(monkeypatch, captures=captures)
    plain, other = both(make(name))
    source = source_of(name, plain, LENGTHS)
    ids, found = torch.arange(len(LENGTHS)), []
    limit = None if plain.vocabulary.eos is None else LIMITS
    for policy in (plain, other, other):  # again with buffers and graphs of the first time
        found.append(greedy(policy, source, limit=limit))
        found.append(sample(policy, source, ids=ids, seed=3, limit=limit, keep_scores=True))
    for one, again in zip(found[:2] * 2, found[2:], strict=True):
        assert torch.equal(one.tokens, again.tokens)
        close(again.log_probs, one.log_probs, 1e-5)
    close(found[3].scores, found[1].scores, 1e-5)
    assert other.static_steps.idle
    assert plain.static_steps is None


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "mistral", "t5", "whisper", "lstm", "fed"])
def test_states_that_are_continued_twice(graphs, name):
    plain, other = both(make(name))
    source, found = source_of(name, plain, (3, 1, 4)), []
    for policy in (plain, other):
        hidden, state = [], policy.start(source)
        _, state = policy.advance(state, torch.tensor([3, 4, 0]))
        for tokens in ([4, 2, 1], [2, 3, 4]):
            one, after = policy.advance(state, torch.tensor(tokens))
            two, last = policy.advance(after, torch.tensor(tokens))
            again, _ = policy.advance(after, torch.tensor([3, 3, 3]))
            rows = torch.tensor([2, 0, 0, 1, 2])
            some, more = policy.advance(last.select(rows), torch.full((5,), 4))
            # Longer rows have another shape of buffers.
            third, _ = policy.advance(more.select(rows[:2]), torch.tensor([3, 4]))
            hidden += [one, two, again, some, third]
        found.append(torch.cat(hidden))
    close(found[1], found[0], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "t5", "fed"])
def test_states_outlive_the_steps_of_other_rows(graphs, name):
    """Also a state that went on by a plain step, as it read mixtures of tokens."""
    plain, other = both(make(name))
    source, found = source_of(name, plain, (3, 1, 4)), []
    for policy in (plain, other):
        state = policy.start(source)
        for tokens in ([3, 4, 0], [4, 2, 1], [1, 1, 2]):
            _, state = policy.advance(state, torch.tensor(tokens))
        hidden = []
        for tokens in ([2, 3, 4], [4, 3, 2], [1, 2, 1]):
            mixed = policy.embed(torch.tensor(tokens))
            once, state = policy.advance(state, mixed)
            # The same shapes: they may take the buffers of states that are gone, and no others.
            greedy(policy, source_of(name, plain, (4, 4, 4)))
            twice, _ = policy.advance(state, torch.tensor(tokens))
            hidden += [once, twice]
        found.append(torch.cat(hidden))
    close(found[1], found[0], 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "mistral", "bart", "lstm", "fed"])
def test_writers_of_forks(graphs, name):
    """From cells of rows that were read in one pass."""
    plain, other = both(make(name))
    batch, rows = static.batch_of(name, plain), torch.arange(6) % 3
    inputs, found = batch.inputs(plain.vocabulary.bos), []
    for policy in (plain, other):
        trace, writer = policy.force(batch.source, inputs), policy.writer()
        writer.begin(
            trace.fork(rows, torch.tensor([0, 1, 2, 2, 0, 1])), rows.new_tensor([*range(6), 0, 3])
        )
        tokens, written_tokens = torch.full((8,), 4), []
        for step in range(5):
            tokens = writer.write(tokens)
            written_tokens.append(tokens)
            if step in (1, 3):  # the first of them are too few to be dropped at once
                stay = torch.tensor([7, 2, 3, 5, 0, 1, 4] if step == 1 else [1, 2, 5])
                writer.keep(stay)
                tokens = tokens[stay]
        found.append(torch.cat(written_tokens))
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["gpt2", "t5", "whisper", "gru", "fed"])
def test_roll_outs(graphs, monkeypatch, name):
    """The loss of SEARNN; some of the chunks of recurrent policies have too many rows."""
    monkeypatch.setattr(recurrent_steps, "MAX_ROWS", 6)
    plain, other = both(make(name))
    batch, method = static.batch_of(name, plain), SEARNN(cost="edit_distance")
    found = [method.loss(policy, batch, Clock(0, 10, 0)).total for policy in (plain, other)]
    close(found[1], found[0], 1e-5)
    assert other.static_steps.idle


@pytest.mark.parametrize("name", ["llama", "t5", "fed"])
def test_roll_outs_in_another_precision_than_the_roll_in(graphs, name):
    """The first step reads keys and values in single precision, and writes some in half."""
    plain, other = both(make(name).float())
    batch = static.batch_of(name, plain)
    method = searnn(cost="edit_distance", roll_out="learned", roll_out_precision="bfloat16")
    found = [method.search(policy, batch, Clock(0, 10, 0)) for policy in (plain, other)]
    assert torch.equal(found[0].costs, found[1].costs)
    assert other.static_steps.idle


@pytest.mark.parametrize("name", ["gpt2", "bart", "lstm", "input-feeding"])
def test_backspaces(graphs, name):
    plain, other = both(erasing_policy(name))
    source = (text_source if name in SHARED else tiny_source)(plain, LENGTHS)
    found = [backtrack(policy, source, choose_greedily) for policy in (plain, other)]
    assert torch.equal(found[0].actions, found[1].actions)
    assert torch.isin(found[0].actions, plain.vocabulary.backspace).any()


@pytest.mark.parametrize("name", ["gpt2", "t5", "fed"])
def test_beams(graphs, name):
    plain, other = both(make(name))
    source = source_of(name, plain, LENGTHS[:4])
    one, two = (beam_search(policy, source, size=3) for policy in (plain, other))
    assert torch.equal(one.tokens, two.tokens)
    close(two.log_probs, one.log_probs, 1e-5)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "t5", "whisper", "lstm", "fed"])
def test_weights_that_are_trained_and_buffers_that_hold_nan(graphs, name):
    plain, other = both(make(name))
    source = source_of(name, plain, (9, 1, 4, 2, 5))  # with a free position
    before = greedy(other, source)
    for step in other.static_steps.idle:
        for states in step.list_states():
            if states.is_floating_point():
                states.fill_(torch.nan)
    with torch.no_grad():
        for policy in (plain, other):
            torch.manual_seed(5)
            for weight in policy.parameters():
                weight.add_(torch.randn_like(weight))
    del step, states
    one, two = greedy(plain, source), greedy(other, source)
    assert torch.equal(one.tokens, two.tokens)
    assert written(before) != written(one)


@pytest.mark.parametrize("name", ["llama", "t5", "fed"])
def test_autocast(graphs, name):
    """Steps in another precision have buffers and graphs of their own."""
    plain, other = both(make(name).float())
    source = source_of(name, plain, (3, 1, 4))
    outside = greedy(plain, source)
    for inside in (True, False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            one, two = greedy(plain, source), greedy(other, source)
        assert torch.equal(one.tokens, two.tokens)
        close(two.log_probs, one.log_probs, 1e-2 if inside else 1e-4)
        assert (one.log_probs - outside.log_probs).abs().max() > 1e-4 or not inside


@pytest.mark.parametrize("name", ["gpt2", "bart", "fed"])
def test_what_a_graph_depends_on(graphs, monkeypatch, name):
    """Steps are captured again for weights at other addresses, and in another precision."""
    captured = []

    def count(function, device):
        captured.append(function)
        return static.capture(function, device)

    monkeypatch.setattr(steps, "capture", count)
    _, policy = both(make(name))
    source, counts = source_of(name, policy, (3, 1, 4)), []

    def decode(inside=False):
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            greedy(policy, source)
        counts.append(len(captured))

    decode()
    decode()
    decode(inside=True)
    decode(inside=True)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(1.0)  # an update in place, after which rows end where they did
    decode()
    for weight in policy.parameters():
        weight.data = weight.data.clone()
    decode()
    first, again, lower, lower_again, trained, moved = counts
    assert 0 < first == again < lower == lower_again == trained < moved


@pytest.mark.parametrize("name", ["lstm", "fed"])
def test_recurrent_layers_that_move_alone_are_captured_again(graphs, name):
    """On a GPU, `.to()` gives them a new place, and every other weight keeps its own."""
    plain, other = both(make(name))
    source = source_of(name, plain, (3, 1, 4))
    greedy(other, source)
    for policy in (plain, other):
        for weight in policy.decoder.layers.parameters():
            weight.data = -2 * weight.data
    one, two = greedy(plain, source), greedy(other, source)
    assert torch.equal(one.tokens, two.tokens)
    close(two.log_probs, one.log_probs, 1e-5)


@pytest.mark.parametrize("name", ["gpt2", "bart", "fed"])
def test_buffers_of_inference_mode_can_be_written_outside(graphs, name):
    plain, other = both(make(name))
    source = source_of(name, plain, (3, 1, 4))
    with torch.inference_mode():
        inside = greedy(other, source)
    outside = greedy(other, source)
    assert torch.equal(inside.tokens, outside.tokens)
    assert torch.equal(outside.tokens, greedy(plain, source).tokens)


@torch.no_grad()
def test_aligned_attention_past_the_end_of_sources(graphs):
    """It looks at the last position of the longest source, not at what a buffer has behind it."""
    plain, other = both(make("aligned"))
    source = source_of("aligned", plain, (9, 4))  # in a buffer of 10
    states = [policy.start(source) for policy in (plain, other)]
    token = torch.zeros(2, dtype=torch.long)
    for _ in range(12):
        steps_of = zip((plain, other), states, strict=True)
        found = [policy.step(state, token) for policy, state in steps_of]
        states = [state for _, state in found]
        close(found[1][0], found[0][0], 1e-6)


@pytest.mark.parametrize("name", ["mistral", "bart", "gru"])
def test_copies_of_a_policy_have_steps_of_their_own(graphs, name):
    plain, other = both(make(name))
    source = source_of(name, plain, LENGTHS)
    expected = greedy(other, source)
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert not copied.static_steps.idle
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(-1)
        assert written(greedy(copied, source)) == written(expected)
        assert written(greedy(other, source)) != written(expected)
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(-1)


@pytest.mark.parametrize("name", ["gpt2", "t5", "gru"])
def test_other_passes_do_not_use_them(monkeypatch, name):
    plain, other = both(make(name))
    source = source_of(name, plain, (3, 2))
    tokens = torch.tensor([3, 4])
    monkeypatch.setattr(other.static_steps, "take", None)  # which every static step calls
    for training, gradient in ((True, True), (False, True), (True, False)):
        found = []
        for policy in (plain, other):
            policy.train(training)
            with torch.set_grad_enabled(gradient):
                _, state = policy.step(policy.start(source), tokens)
                found.append(policy.step(state, tokens)[0])
        assert torch.equal(*found)
        assert found[1].requires_grad == gradient


@pytest.mark.parametrize("name", ["gpt2", "gru"])
def test_buffers_are_not_kept_without_end(monkeypatch, name):
    monkeypatch.setattr(steps, "MAX_IDLE_BYTES", 1)
    _, other = both(make(name))
    greedy(other, source_of(name, other, LENGTHS), limit=LIMITS)
    assert len(other.static_steps.idle) == 1


def test_only_so_many_graphs_are_kept(monkeypatch):
    monkeypatch.setattr(steps, "MAX_IDLE_STEPS", 2)
    _, other = both(make("gru"))
    for count in (1, 2, 3, 4):
        greedy(other, source_of("gru", other, LENGTHS[:count]))
    assert len(other.static_steps.idle) == 2


def test_recurrent_steps_are_not_compiled():
    message = (
        "steps of a recurrent policy cannot be compiled, as torch.compile supports no GRU and LSTM "
        "layers; call capture_steps() without options"
    )
    policy = make("gru")
    with raises(ValueError, message):
        policy.capture_steps(backend="eager")
    assert policy.static_steps is None


# Sources of encoder-decoders


@torch.no_grad()
@pytest.mark.parametrize("name", ["t5", "whisper"])
def test_sources_that_rows_share_get_buffers_for_each_row(graphs, name):
    """Rows that began before steps were captured; later ones do not share sources."""
    plain, other = make(name), make(name)
    source, rows, found = source_of(name, plain, (3, 1, 4)), torch.tensor([2, 0, 2, 2, 1]), []
    for policy in (plain, other):
        _, state = policy.advance(policy.start(source), torch.tensor([3, 4, 0]))
        shared = state.select(rows)
        assert shared.encoder.rows is not None
        if policy is other:
            policy.capture_steps()
            assert state.select(rows).encoder.rows is None
        hidden, state = policy.advance(shared, torch.tensor([3, 4, 0, 1, 2]))
        again, _ = policy.advance(state, torch.tensor([4, 4, 1, 1, 2]))
        found.append(torch.cat([hidden, again]))
    close(found[1], found[0], 1e-5)


# Refusals


class Changing(CausalPolicy):
    """A policy that computes something else in buffers of constant shape."""

    def read(self, inputs, positions, mask, past, encoder):
        hidden, after, encoder = super().read(inputs, positions, mask, past, encoder)
        if isinstance(past, cache_steps.StaticKeyValues):
            hidden = hidden + 1
        return hidden, after, encoder


class Failing(CausalPolicy):
    """A policy that cannot run in buffers of constant shape."""

    def read(self, inputs, positions, mask, past, encoder):
        if isinstance(past, cache_steps.StaticKeyValues):
            raise NotImplementedError("no")
        return super().read(inputs, positions, mask, past, encoder)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Changing, "it writes something else with keys and values in buffers of constant shape"),
        (
            Failing,
            "it does not run with keys and values in buffers of constant shape "
            "(NotImplementedError('no'))",
        ),
    ],
)
def test_models_whose_steps_cannot_be_captured(kind, reason):
    model = make("gpt2")
    policy = kind(model.model, model.vocabulary, limit=4)
    with raises(ValueError, f"steps of GPT2LMHeadModel cannot be captured: {reason}"):
        policy.capture_steps()
    assert policy.static_steps is None


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


@pytest.mark.parametrize("name", ["mistral", "gemma3", "t5", "bart", "whisper"])
def test_attention_that_is_fused(graphs, name):
    """Its masks are true or false, and whether they hide anything would be asked of the device."""
    plain, other = both(make(name, attention="sdpa"))
    source = source_of(name, plain, LENGTHS)
    one, two = greedy(plain, source, limit=LIMITS), greedy(other, source, limit=LIMITS)
    assert torch.equal(one.tokens, two.tokens)
    close(two.log_probs, one.log_probs, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("turn", range(0, len(KINDS), 3), ids=lambda turn: name_of(KINDS[turn]))
def test_steps_of_recurrent_policies_do_not_wait(turn):
    policy = policy_of(turn)
    state = policy.start(tiny_batch(policy).source)
    tokens = torch.zeros(4, dtype=torch.long)
    assert find_host_reads(lambda: policy.advance_plainly(state, tokens)) == set()


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
def test_what_waits_for_the_device_is_found(read, name):
    slot = torch.tensor([2])
    assert find_host_reads(lambda: slot.clamp(max=1)[slot - 2]) == set()
    assert find_host_reads(lambda: read(slot)) == {name}


COMPILED = """
import copy, sys, torch
from freerun.decoding import greedy
from tests.models.static import make, source_of
name, backend = sys.argv[1:]
plain = make(name)
static = copy.deepcopy(plain)
static.capture_steps(backend=backend)
source = source_of(name, plain, (3, 1, 4))
assert torch.equal(greedy(plain, source).tokens, greedy(static, source).tokens)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "t5"])
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_steps_are_compiled(backend, name):
    """In a process without checks of shapes, which cannot be compiled."""
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("needs a compiler")
    subprocess.run([sys.executable, "-c", COMPILED, name, backend], cwd=ROOT, check=True)


def test_rounding():
    assert [round_rows(n) for n in (1, 5, 8, 9, 16, 17, 33, 49, 100)] == [
        1, 5, 8, 10, 16, 20, 40, 56, 112
    ]  # fmt: skip
    assert [cache_steps.round_slots(n) for n in (1, 64, 65, 129)] == [64, 64, 128, 256]
    assert [round_positions(n) for n in (1, 16, 17, 1500)] == [16, 16, 20, 1536]
