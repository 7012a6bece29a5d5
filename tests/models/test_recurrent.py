"""The recurrent policy: the contract of policies for every kind of it, states, dropout."""

import pytest
import torch

from freerun.batch import Source
from freerun.decoding import argmax_tokens, beam_search, greedy, sample
from freerun.models.recurrent import layers
from freerun.roll_in import score_relaxed
from freerun.testing import PolicyContract
from tests.helpers import close, roll_in_own, single, tiny_batch, tiny_policy
from tests.models.kinds import KINDS, LOOKS, name, policy_of
from tests.models.plain import plain_scores

# For the whole contract, depth and reading both ways take turns: every kind is compared with its
# equations below.
SOME = [
    i
    for i, kind in enumerate(KINDS)
    if kind["bidirectional"] == (i % len(LOOKS) // 2 % 2 == 0)
    and kind["layers"] == 1 + (i % len(LOOKS) + (kind["cell"] == "lstm")) % 2
]


@pytest.fixture(scope="module", params=SOME, ids=[name(KINDS[i]) for i in SOME])
def policy(request):
    return policy_of(request.param)


@pytest.fixture(scope="module")
def batch(policy):
    return tiny_batch(policy, lengths=(3, 1, 4, 2), targets=(2, 4, 1, 3))


class TestContract(PolicyContract):
    """The protocol, for kinds of every cell, depth and way to look at the source."""


@pytest.mark.parametrize("turn", range(len(KINDS)), ids=[name(kind) for kind in KINDS])
def test_scores_are_those_of_the_equations(turn):
    """Whole rows and steps, of every kind."""
    policy = policy_of(turn)
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2), targets=(2, 4, 1, 3))
    inputs = batch.inputs(policy.vocabulary.bos)
    state, steps, expected = policy.start(batch.source), [], []
    for cell in range(inputs.shape[1]):
        scores, state = policy.step(state, inputs[:, cell])
        steps.append(scores)
    for row in range(len(batch.ids)):
        one = single(batch, row)
        tokens = inputs[row, : one.target.shape[1]].tolist()
        expected.append(plain_scores(policy, one.source, tokens))
    close(torch.stack(steps, 1)[batch.mask], torch.cat(expected))
    close(policy.force(batch.source, inputs).logits(batch.mask), torch.cat(expected))


def test_forward_is_teacher_forcing():
    policy = tiny_policy(attention="additive", input_feeding=True)
    batch = tiny_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)
    tensors = batch.tensors()
    found = policy(source=tensors["source"], source_mask=tensors["source_mask"], tokens=inputs)
    close(found[batch.mask], policy.force(batch.source, inputs).logits(batch.mask))


# States


@pytest.mark.parametrize("kind", ["general", "additive", "aligned"])
@pytest.mark.parametrize("training", [False, True])
def test_a_fork_feeds_the_last_attentional_output(kind, training):
    policy = tiny_policy(eos=False, attention=kind, input_feeding=True, dropout=0.5)
    policy.train(training)
    batch = tiny_batch(policy)
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    rows, cells = torch.tensor([0, 2, 2]), torch.tensor([1, 3, 0])
    state = trace.fork(rows, cells)
    assert torch.equal(state.feed, trace.outputs[rows, cells])
    assert bool((state.feed != 0).any())
    assert state.position.tolist() == [2, 4, 1]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_cell_states_are_those_of_the_pass_that_dropped(dropout):
    """An LSTM's cells are computed again after the pass, from what its layers really read."""
    policy = tiny_policy(cell="lstm", layers=2, dropout=dropout).train()
    batch = tiny_batch(policy)
    first = policy.start(batch.source)
    embedded = policy.embed(batch.inputs(policy.vocabulary.bos))
    _, reads, states = policy.decoder(embedded, first.hidden, first.cell)
    found = policy.decoder.find_cell_states(reads, first.hidden, first.cell, states)
    for layer in range(2):
        weights = list(policy.decoder.layers[layer].parameters())
        hidden, cell = first.hidden[layer], first.cell[layer]
        for t in range(embedded.shape[1]):
            hidden, cell = torch.lstm_cell(reads[layer][:, t], (hidden, cell), *weights)
            close(states[layer][:, t], hidden)
            close(found[layer][:, t], cell)
    dropped = (reads[1] == 0).any()
    assert bool(dropped) == (dropout > 0)


def test_a_fork_while_training_is_of_the_pass_that_was_made():
    """The trace keeps the dropout of its pass: forks of it agree with each other."""
    policy = tiny_policy(cell="lstm", dropout=0.5).train()
    batch = tiny_batch(policy)
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    here = torch.tensor([0]), torch.tensor([2])
    first, again = trace.fork(*here), trace.fork(*here)
    assert torch.equal(first.hidden[0], again.hidden[0])
    assert torch.equal(first.cell[0], again.cell[0])


def test_a_fork_past_the_end_is_refused():
    policy = tiny_policy()
    batch = tiny_batch(policy)
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    with pytest.raises(IndexError):
        trace.fork(torch.tensor([0]), torch.tensor([batch.target.shape[1]]))


def test_selection_copies_no_memory():
    policy = tiny_policy(attention="additive")
    batch = tiny_batch(policy)
    state = policy.start(batch.source)
    many = state.select(torch.arange(4).repeat(50)).select(torch.arange(100))
    assert many.memory.keys is state.memory.keys
    assert many.memory.values is state.memory.values
    forked = policy.force(batch.source, batch.target).fork(
        torch.tensor([1, 1]), torch.tensor([0, 1])
    )
    assert forked.memory.keys.shape == state.memory.keys.shape


# Modes and precisions


def test_dropout_is_on_while_training_only():
    policy = tiny_policy(layers=2, attention="additive", dropout=0.5)
    batch = tiny_batch(policy)
    inputs = batch.inputs(policy.vocabulary.bos)

    def scores():
        return policy.force(batch.source, inputs).logits(batch.mask)

    assert torch.equal(scores(), scores())
    policy.train()
    assert not torch.equal(scores(), scores())


@pytest.mark.kernels
@pytest.mark.parametrize("turn", range(0, len(KINDS), 3))
def test_mixed_precision_runs_everywhere(turn):
    """Under autocast every path runs, and scores as without it up to a few digits."""
    policy = policy_of(turn).float()
    batch = tiny_batch(policy)
    values = batch.source.values
    source = Source(values.float() if values.is_floating_point() else values, batch.source.mask)
    batch = type(batch)(batch.ids, source, batch.target, batch.mask)
    inputs = batch.inputs(policy.vocabulary.bos)
    plain = policy.force(batch.source, inputs).logits(batch.mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = policy.force(batch.source, inputs)
        scores = trace.logits(batch.mask)
        policy.step(trace.fork(torch.tensor([0]), torch.tensor([1])), torch.tensor([0]))
        tree = policy.force(batch.source, inputs, torch.full_like(inputs, -1))
        tree.logits(batch.mask)
        own = torch.ones_like(batch.mask)
        rolled = score_relaxed(policy, batch, own, lambda scores, rows, cell: scores.softmax(-1))
        roll_in_own(policy, batch, lambda scores, rows, cell: argmax_tokens(scores))
        greedy(policy, batch.source)
        sample(policy, batch.source, ids=batch.ids, seed=0, top_p=0.9)
        beam_search(policy, batch.source, size=2)
    rolled.float().sum().backward()
    close(scores.float(), plain, 0.3)


def lstm_gradients(layer, inputs, state):
    """Outputs and last states of an LSTM, and the gradients of its weights and of what it reads."""
    outputs, last = layer(inputs, tuple(state))
    gradients = torch.autograd.grad(outputs.square().sum(), [inputs, *layer.parameters()])
    return [outputs, *last, *gradients]


@pytest.mark.kernels
def test_lstm_leaves_autocast_where_the_processor_has_no_kernel(monkeypatch):
    layer = layers.LSTM(3, 4, batch_first=True)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 5, 3, generator=generator, requires_grad=True)
    # Under autocast, what comes from other layers is in half precision.
    state = [torch.randn(1, 2, 4, generator=generator).bfloat16() for _ in range(2)]
    expected = lstm_gradients(layer, inputs, [part.float() for part in state])
    asked = []
    monkeypatch.setattr(layers, "has_lstm_kernel", asked.append)
    with torch.autocast("cpu", torch.bfloat16):
        found = lstm_gradients(layer, inputs, state)
        packed, _ = layer(torch.nn.utils.rnn.pack_sequence(list(inputs)))
    assert asked == [torch.bfloat16] * 2
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    plain, _ = layer(torch.nn.utils.rnn.pack_sequence(list(inputs)))
    assert torch.equal(packed.data, plain.data)


@pytest.mark.kernels
def test_a_missing_lstm_kernel_is_found_once_and_told(monkeypatch, caplog):
    def refuse(*args):
        raise RuntimeError("could not create a primitive descriptor")

    layers.has_lstm_kernel.cache_clear()
    before = torch.get_rng_state()
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(torch, "lstm", refuse)
        assert not layers.has_lstm_kernel(torch.bfloat16)
    assert not layers.has_lstm_kernel(torch.bfloat16)
    assert caplog.messages == [
        "This CPU has no LSTM kernel for bfloat16: LSTM layers compute in single precision."
    ]
    layers.has_lstm_kernel.cache_clear()
    with torch.inference_mode():
        here = layers.has_lstm_kernel(torch.bfloat16)
    assert len(caplog.messages) == (1 if here else 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.kernels
def test_lstm_keeps_to_autocast_where_the_processor_has_a_kernel():
    layer = layers.LSTM(3, 4, batch_first=True)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = layer(torch.ones(2, 5, 3))
    low = layers.has_lstm_kernel(torch.bfloat16)
    assert outputs.dtype == (torch.bfloat16 if low else torch.float32)
