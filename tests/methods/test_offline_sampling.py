"""Own outputs from a buffer: mixed prefixes, and answers that are corrected."""

import pytest
import safetensors.torch
import torch
from torch import Tensor

from freerun.methods import (
    MLE,
    AnswerCorrection,
    Clock,
    OfflineScheduledSampling,
    ScheduledSampling,
)
from freerun.methods.offline_sampling import correct_answers
from freerun.randomness import below, uniform
from freerun.trajectories import write_outputs
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.models.models import text_batch, tiny_adapted
from tests.twins import scores_after

HALF = {"schedule": "constant", "k": 0.4, "feedback": "sample"}
METHODS = {
    "mixed": lambda **settings: OfflineScheduledSampling(**{**HALF, "share": 0.6, **settings}),
    "corrected": lambda **settings: AnswerCorrection(**{"share": 0.6, **settings}),
}
CLOCK = Clock(3, total=9, seed=1)


@pytest.fixture(params=METHODS)
def make(request):
    return METHODS[request.param]


@pytest.fixture
def policy():
    return tiny_policy(4, attention="additive")


def batch_of(policy):
    return tiny_batch(policy, lengths=(3, 1, 5, 2, 4), targets=(5, 1, 3, 2, 4))


def fill(method, policy, *batches, steps=(0, 2)):
    """Let a policy write in some updates, each of several batches."""
    for step in steps:
        clock = Clock(step, total=9, seed=1)
        for batch in batches:
            method.loss(policy, batch, clock)
        method.after_update(policy, clock)
    return method


def test_the_loss_is_that_of_a_plain_loop(make, policy):
    """Each example is one of the buffer if its coin says so, with what was written for that one."""
    batch = batch_of(policy)
    method = fill(make(period=2), policy, batch)
    entries = [entry for sampling in method.buffer.samplings for entry in sampling]
    assert [entry.step for entry in entries] == [0] * 5 + [2] * 5
    coins = uniform(CLOCK.seed, "replay", CLOCK.step, batch.ids) < 0.6
    numbers = below(10, CLOCK.seed, "buffer", CLOCK.step, batch.ids)
    words = policy.vocabulary
    total, count, age, replayed = 0.0, 0, 0, 0
    for row in range(5):
        one = single(batch, row)
        source, target, before = one.source, one.target[0].tolist(), [words.bos]
        inputs = [words.bos, *target]
        if coins[row]:
            entry = entries[numbers[row]]
            source = type(source)(entry.source[None], torch.ones(1, len(entry.source)).bool())
            written, targets = entry.rows
            target = targets.tolist()
            if isinstance(method, AnswerCorrection):
                answer = [token for token in written.tolist() if token != words.eos]
                before = [words.bos, *answer, words.eos]
                inputs = [words.bos, *target]
            else:
                inputs = written.tolist()
            replayed += len(target)
            age += (3 - entry.step) * len(target)
        for cell, token in enumerate(target):
            prefix = torch.tensor([before + inputs[1 : cell + 1]])
            total = total - scores_after(policy, source, prefix).log_softmax(-1)[token]
        count += len(target)
    assert 0 < replayed < count
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, total)
    close(gradients(policy, outcome.total), gradients(policy, total))
    assert int(outcome.count) == count
    assert float(outcome.metrics["replayed"]) == pytest.approx(replayed / count)
    assert float(outcome.metrics["staleness"]) == pytest.approx(age / count)


def test_mixed_prefixes_are_those_of_scheduled_sampling(policy):
    """With only the buffer, and the weights that it was filled with."""
    batch = batch_of(policy)
    method = fill(METHODS["mixed"](share=1.0), policy, batch, steps=(0,))
    order = batch.ids.argsort()
    numbers = below(5, CLOCK.seed, "buffer", CLOCK.step, batch.ids)
    written = batch.select(order[numbers])
    expected = ScheduledSampling(**HALF).loss(policy, written, Clock(0, total=9, seed=1))
    outcome = method.loss(policy, batch, CLOCK)
    close(outcome.total, expected.total)
    close(gradients(policy, outcome.total), gradients(policy, expected.total))
    inputs = [entry.rows[0] for entry in method.buffer.samplings[0]]
    reference = [row[:length] for row, length in zip(batch.inputs(4), batch.lengths, strict=True)]
    changed = [int((inputs[n] != reference[order[n]]).sum()) for n in numbers]
    share = sum(changed) / int(batch.lengths[order[numbers]].sum())
    assert float(outcome.metrics["different"]) == pytest.approx(share)
    assert sum(changed) > 0


@pytest.mark.parametrize("settings", [{"share": 0.0}, {}])
def test_without_the_buffer_it_is_maximum_likelihood(make, policy, settings):
    """To the bit: with a share of 0, and before anything was written."""
    batch, method = batch_of(policy), make(**settings)
    if settings:
        fill(method, policy, batch)
    found, expected = (m.loss(policy, batch, CLOCK) for m in (method, MLE()))
    assert torch.equal(found.total, expected.total)


def test_neither_padding_nor_order_nor_parts_change_a_run(make, policy):
    """The buffer is the same, too."""
    batch = batch_of(policy)
    whole = fill(make(period=2), policy, batch)
    expected = whole.loss(policy, batch, CLOCK)
    parts = [batch.select(torch.tensor(rows)) for rows in ([3, 0], [4, 2, 1])]
    split = fill(make(period=2), policy, *parts)
    shifted = fill(make(period=2), policy, padded(batch, policy.vocabulary.eos))
    for other in (split, shifted):
        for mine, theirs in zip(whole.buffer.samplings, other.buffer.samplings, strict=True):
            assert [e.example for e in mine] == [e.example for e in theirs]
            for one, same in zip(mine, theirs, strict=True):
                assert all(map(torch.equal, (one.source, *one.rows), (same.source, *same.rows)))
    found = shifted.loss(policy, padded(batch, 0), CLOCK)
    close(found.total, expected.total)
    close(found.metrics, expected.metrics)
    outcomes = [split.loss(policy, part, CLOCK) for part in parts]
    close(sum(outcome.total for outcome in outcomes), expected.total)
    assert sum(int(outcome.count) for outcome in outcomes) == int(expected.count)


def test_gradients_are_those_of_finite_differences(make):
    policy = tiny_policy(3, hidden_size=2, embedding_size=2, scale=0.8)
    gradcheck_loss(fill(make(), policy, tiny_batch(policy, lengths=(3, 2), targets=(2, 4))))


def test_the_buffer_is_saved_to_the_bit(make, policy, tmp_path):
    batch = batch_of(policy)
    method = fill(make(period=2), policy, batch)
    state = method.state_dict()
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    safetensors.torch.save_file(tensors, tmp_path / "buffer.safetensors")
    again, read = make(period=2), safetensors.torch.load_file(tmp_path / "buffer.safetensors")
    assert again.state_dict() == {"sizes": []}
    again.load_state_dict({"sizes": state["sizes"], **read})
    assert torch.equal(*(m.loss(policy, batch, CLOCK).total for m in (method, again)))


def test_samplings_come_in_periods_and_leave(make, policy):
    method = make(period=2, samplings=2)
    fill(method, policy, batch_of(policy), steps=range(6))
    assert [sampling[0].step for sampling in method.buffer.samplings] == [2, 4]


@pytest.mark.parametrize(("name", "shared"), [("gpt2", True), ("bart", False), ("t5", True)])
def test_on_hugging_face_models(make, name, shared):
    """With other examples in the batch, the same as each alone; and corrections are greedy."""
    policy = tiny_adapted(name, shared=shared, letters="abc")
    batch = text_batch(policy)
    method = fill(make(share=1.0), policy, batch, steps=(0,))
    outcome = method.loss(policy, batch, CLOCK)
    outcome.total.backward()
    alone = sum(method.loss(policy, single(batch, row), CLOCK).total for row in range(4))
    torch.testing.assert_close(outcome.total, alone)
    limit = policy.limit(batch.source)
    tokens, lengths = write_outputs(policy, batch.source, limit)
    corrected, counts = correct_answers(policy, batch.source, tokens, lengths)
    eos = policy.vocabulary.eos
    for row in range(4):
        source, answer = single(batch, row).source, tokens[row, : lengths[row]].tolist()
        read = [policy.vocabulary.bos, *(token for token in answer if token != eos), eos]
        for token in corrected[row, : counts[row]].tolist():
            inputs = torch.tensor([read])
            cells = torch.arange(len(read)) == len(read) - 1
            scores = policy.force(source, inputs).logits(cells[None])[0]
            assert int(scores.argmax()) == token
            read.append(token)
        assert read[-1] == eos or counts[row] == limit[row]


def test_answers_are_cut_where_there_is_no_room():
    """The last tokens of an answer are not read; with no room for its end, none is."""
    policy = tiny_adapted("gpt2", letters="abc")
    batch = text_batch(policy)
    method = fill(METHODS["corrected"](share=1.0, stretch=4.0), policy, batch, steps=(0,))
    whole = method.loss(policy, batch, CLOCK).total
    taken = policy.prompt_lengths(batch.source) + batch.lengths
    policy.max_positions = int(taken.max())
    cut = method.loss(policy, batch, CLOCK)
    assert cut.total.isfinite()
    assert cut.total != whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "share is 1.5; it must be in [0, 1]"),
        ({"period": 0}, "period is 0; it must be at least 1"),
        ({"samplings": 0}, "samplings is 0; it must be at least 1"),
    ],
)
def test_wrong_settings_are_told(make, settings, message):
    with raises(ValueError, message):
        make(**settings)


def test_wrong_settings_of_one_method_are_told():
    with raises(ValueError, "stretch is 0.5; it must be at least 1"):
        AnswerCorrection(stretch=0.5)
    with raises(ValueError, "schedule=constant needs k, the share of reference tokens"):
        OfflineScheduledSampling(schedule="constant")
    message = "answer_correction needs outputs that end in eos, which another output can follow"
    with raises(ValueError, message):
        AnswerCorrection().check(tiny_policy(4, eos=False).vocabulary)
    assert set(OfflineScheduledSampling().tuning) == {"share", "schedule", "floor", "feedback"}
