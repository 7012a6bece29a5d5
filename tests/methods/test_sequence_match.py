"""Behavior cloning and SequenceMatch as methods: twins in plain Python, limits, the buffer.

The pure functions: `tests/losses`, `tests/backspaces`.
"""

import math
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from freerun.batch import Batch, Source
from freerun.methods import MLE, BehaviorCloning, Clock, SequenceMatch
from freerun.methods.replay_buffer import ReplayBuffer
from freerun.models.huggingface import adapt
from freerun.tasks import Spelling, Task
from freerun.vocabulary import Vocabulary
from tests.helpers import close, gradients, padded, raises, single, tiny_batch, tiny_policy
from tests.methods.checks import gradcheck_loss
from tests.twins import scores_after

WORDS = Vocabulary(("a", "b", "<eos>", "<backspace>"), bos=4, pad=5, eos=2, backspace=3)
POLICIES = [
    {},
    {"attention": "general", "cell": "lstm", "layers": 2},
    {"attention": "additive", "input_feeding": True},
]
ALWAYS = {"warm_up": 0.0, "anneal": 0.0, "floor": 0.0}
PHI = {
    "chi2_mixture": lambda x: x,
    "chi2": lambda x: x - x * x / 4,
    "kl_model_data": lambda x: 1 - math.exp(-x),
    "kl_data_model": lambda x: math.log(1 + x),
    "js": lambda x: math.log(2 - math.exp(-x)),
    "hellinger": lambda x: x / (1 + x),
    "tv": lambda x: x,
}


@pytest.fixture(params=POLICIES, ids=("gru", "lstm", "fed"))
def policy(request):
    return tiny_policy(words=WORDS, limit=8, **request.param)


def batch_of(policy):
    """Targets of letters alone, some cut off before their eos."""
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2, 2), targets=(5, 1, 3, 2, 4))
    target = batch.target.where(batch.target != WORDS.backspace, 0)
    target[3, 1] = 1
    return batch.__class__(batch.ids, batch.source, target, batch.mask)


def filled(method, policy, batch, steps=(0, 1)):
    """The method, with own sequences of some updates in its buffer."""
    for step in steps:
        method._sample(policy, batch, Clock(step, 10))
        method.after_update(policy, Clock(step, 10))
    return method


def walk(policy, source, actions):
    """ℓ(a|s) of all actions and V of all states, each read from scratch after its prefix."""
    stack, chosen, values = [], [], []
    for action in [*actions, None]:
        inputs = torch.tensor([[WORDS.bos, *stack]])
        scores = scores_after(policy, source, inputs).detach()
        values.append(float(scores.logsumexp(-1)))
        if action is None:
            break
        chosen.append(float(scores[action]))
        if action == WORDS.backspace:
            stack = stack[:-1]
        else:
            stack.append(action)
    return chosen, values


def twin_j(data, model, *, divergence, alpha, gamma):
    """J of one data sequence and one own one, each (chosen, values, ended)."""

    def phi(x):
        return x if alpha == 0 else PHI[divergence](alpha * x) / alpha

    total = 0.0
    for (chosen, values, ended), own in ((data, False), (model, True)):
        count = len(chosen)
        for t in range(count):
            reward = chosen[t] - gamma * values[t + 1]
            if not own:
                total += gamma**t * phi(reward)
            if divergence == "chi2_mixture":
                total -= alpha / 4 * gamma**t * reward**2
            total -= gamma**t * (values[t] - gamma * values[t + 1]) / 2
        if ended:
            last, weight = values[count], gamma**count
            total -= weight * last / 2
            if not own:
                resting = (1 - gamma) * last
                total += weight * (last if gamma == 1 else phi(resting) / (1 - gamma))
            if divergence == "chi2_mixture":
                total -= alpha / 4 * weight * (1 - gamma) * last**2
    return total


def rows_of(policy, source, actions, mask):
    """Every row by itself, as `twin_j` takes it."""
    for row in range(len(actions)):
        taken = actions[row][mask[row]].tolist()
        length = int(source.lengths[row])
        one = Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
        yield *walk(policy, one, taken), taken[-1:] == [WORDS.eos]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.01, 0.9), (0.02, 1.0), (0.0, 0.8)])
def test_the_loss_is_that_of_its_twin(policy, alpha, gamma):
    check_twin(policy, "chi2_mixture", alpha, gamma)


@pytest.mark.parametrize("divergence", [name for name in PHI if name != "chi2_mixture"])
def test_the_loss_of_other_divergences_is_that_of_its_twin(divergence):
    check_twin(tiny_policy(words=WORDS, limit=8), divergence, 0.02, 0.9)


def check_twin(policy, divergence, alpha, gamma):
    settings = {"divergence": divergence, "alpha": alpha, "gamma": gamma}
    batch, clock = batch_of(policy), Clock(2, 10, seed=3)
    method = filled(SequenceMatch(noise=0.4, noise_run=2, **settings, **ALWAYS), policy, batch)
    data = method.insert_noise(WORDS, batch, clock)
    assert (data.actions == WORDS.backspace).sum() > 2
    numbers = method._numbers(batch, clock)
    own = method.buffer.draw(numbers, WORDS.pad)
    actions, mask = own.rows["actions"]
    assert ((actions == WORDS.backspace) & mask).any()
    expected = -sum(
        twin_j(mine, theirs, **settings)
        for mine, theirs in zip(
            rows_of(policy, batch.source, data.actions, data.mask),
            rows_of(policy, own.source, actions, mask),
            strict=True,
        )
    )
    outcome = method.loss(policy, batch, clock)
    assert outcome.total.item() == pytest.approx(expected, abs=1e-9)
    assert int(outcome.count) == int(batch.mask.sum())
    assert all(not value.requires_grad for value in outcome.metrics.values())


def test_behavior_cloning_is_that_of_its_twin(policy):
    method, batch, clock = BehaviorCloning(noise=0.4), batch_of(policy), Clock(1, 10, seed=3)
    data, expected = method.insert_noise(WORDS, batch, clock), 0.0
    for chosen, values, _ in rows_of(policy, batch.source, data.actions, data.mask):
        expected -= sum(s - v for s, v in zip(chosen, values, strict=False))
    outcome = method.loss(policy, batch, clock)
    assert outcome.total.item() == pytest.approx(expected, abs=1e-9)
    share = int(data.planted.sum()) / int(data.mask.sum())
    assert float(outcome.metrics["planted"]) == pytest.approx(share)


def test_without_noise_cloning_is_maximum_likelihood(policy):
    batch, clock = batch_of(policy), Clock(1, 10)
    cloned = BehaviorCloning(noise=0.0).loss(policy, batch, clock)
    expected = MLE().loss(policy, batch, clock)
    close(cloned.total, expected.total)
    found, wanted = gradients(policy, cloned.total), gradients(policy, expected.total)
    close(found, wanted)


def test_without_divergence_and_discount_it_is_maximum_likelihood(policy):
    """α = 0 and γ = 1, where own sequences start from the prompts of the data."""
    policy.config.limit = 400  # so that own sequences end
    batch, clock = single(batch_of(policy), 0), Clock(2, 10)
    method = SequenceMatch(alpha=0.0, gamma=1.0, noise=0.0, **ALWAYS)
    filled(method, policy, batch, steps=(0,))
    assert method.buffer.samplings[0][0].rows[0][-1] == WORDS.eos
    found, wanted = (m.loss(policy, batch, clock) for m in (method, MLE()))
    close(found.total, wanted.total, 1e-10)
    close(gradients(policy, found.total), gradients(policy, wanted.total), 1e-9)


@pytest.mark.parametrize("divergence", ["chi2_mixture", "js"])
def test_gradients_are_those_of_finite_differences(divergence):
    policy = tiny_policy(words=WORDS, limit=6, hidden_size=2, embedding_size=2, scale=0.8)
    batch = tiny_batch(policy, lengths=(3, 2), targets=(2, 4))
    method = SequenceMatch(divergence=divergence, alpha=0.05, gamma=0.9, noise=0.3, **ALWAYS)
    filled(method, policy, batch)
    gradcheck_loss(method, words=WORDS, limit=6)


def test_beta_falls_after_the_warm_up():
    method = SequenceMatch(warm_up=0.4, anneal=0.2, floor=0.1)
    betas = [method.cloning_weight(Clock(step, 100)) for step in (0, 39, 40, 50, 60, 100, 150)]
    assert betas == pytest.approx([1, 1, 1, 0.55, 0.1, 0.1, 0.1])
    at_once = SequenceMatch(warm_up=0.4, anneal=0.0, floor=0.0)
    assert [at_once.cloning_weight(Clock(step, 100)) for step in (39, 40)] == [1, 0]


def test_the_first_update_has_nothing_to_match(policy):
    """Without a warm-up too, as own sequences join the buffer after the update."""
    batch, method = batch_of(policy), SequenceMatch(noise=0.2, **ALWAYS)
    outcome = method.loss(policy, batch, Clock(0, 10))
    expected = BehaviorCloning(noise=0.2).loss(policy, batch, Clock(0, 10))
    assert torch.equal(outcome.total, expected.total)
    method.after_update(policy, Clock(0, 10))
    assert len(method.buffer) == 5
    assert "sequence_match" in method.loss(policy, batch, Clock(1, 10)).metrics


def test_what_is_sampled_when(policy):
    batch = batch_of(policy)
    method = SequenceMatch(warm_up=0.5, period=3, samplings=2)
    held = []
    for step in range(16):
        method.loss(policy, batch, Clock(step, 16))
        method.after_update(policy, Clock(step, 16))
        held.append([rows[0].step for rows in method.buffer.samplings])
    assert held[6:] == [[], [7], [7], [7], [7, 10], [7, 10], [7, 10], [10, 13], [10, 13], [10, 13]]
    metrics = method.loss(policy, batch, Clock(15, 16)).metrics
    ages = {5.0, 2.0}
    numbers = method._numbers(batch, Clock(15, 16))
    drawn = [15 - int(step) for step in method.buffer.draw(numbers, 0).steps]
    assert set(drawn) <= ages
    assert float(metrics["staleness"]) == pytest.approx(sum(drawn) / 5)


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 2, 0, 3, 1)])
def test_batches_may_be_split(policy, order):
    """In any way and order: sums of losses are the same, and so is the buffer after."""
    whole, clock = batch_of(policy), Clock(4, 10, seed=1)
    settings = {"noise": 0.3, "period": 1, **ALWAYS}
    one, other = (filled(SequenceMatch(**settings), policy, whole) for _ in range(2))
    expected = one.loss(policy, whole, clock)
    one.after_update(policy, clock)
    parts = [whole.select(torch.tensor(rows)) for rows in (order[:2], order[2:3], order[3:])]
    found = [other.loss(policy, part, clock) for part in parts]
    other.after_update(policy, clock)
    close(sum(outcome.total for outcome in found), expected.total, 1e-9)
    close(
        tensors(one.buffer),
        tensors(other.buffer),
        0,
    )


def test_padding_changes_nothing(policy):
    batch, clock = batch_of(policy), Clock(4, 10, seed=1)
    found = []
    for rows in (batch, padded(batch, WORDS.eos)):
        method = filled(SequenceMatch(noise=0.3, **ALWAYS), policy, rows)
        found.append(method.loss(policy, rows, clock).total)
    close(*found, 1e-10)


def tensors(buffer):
    return {k: v for k, v in buffer.state_dict().items() if isinstance(v, torch.Tensor)}


def test_the_buffer_is_kept_to_the_bit(policy, tmp_path):
    batch = batch_of(policy)
    method = filled(SequenceMatch(noise=0.3, **ALWAYS), policy, batch, steps=(0, 1, 2))
    state = method.state_dict()
    safetensors.torch.save_file(tensors(method.buffer), tmp_path / "buffer.safetensors")
    again = SequenceMatch(noise=0.3, **ALWAYS)
    again.load_state_dict(
        {
            "sizes": state["sizes"],
            **safetensors.torch.load_file(tmp_path / "buffer.safetensors"),
        }
    )
    one, other = (m.loss(policy, batch, Clock(5, 10)).total for m in (method, again))
    assert torch.equal(one, other)


def test_an_empty_buffer_is_kept():
    buffer = ReplayBuffer(("actions",))
    assert buffer.state_dict() == {"sizes": []}
    buffer.load_state_dict({"sizes": []})
    assert len(buffer) == 0


def test_each_run_begins_with_an_empty_buffer(policy):
    from freerun.tasks import Arithmetic

    method = filled(SequenceMatch(), policy, batch_of(policy))
    assert len(method.for_task(Arithmetic()).buffer) == 0
    assert method.for_task(Arithmetic()) == method


def test_without_backspace_targets_are_learnt_as_they_are():
    policy = tiny_policy(4, limit=6)
    batch, clock = tiny_batch(policy), Clock(3, 10)
    method = filled(SequenceMatch(backspace=False, **ALWAYS), policy, batch)
    method.check(policy.vocabulary)
    metrics = method.loss(policy, batch, clock).metrics
    assert "own_backspaces" not in metrics
    assert float(metrics["staleness"]) in {2.0, 2.2, 2.25, 2.5, 2.75, 3.0}


def test_own_sequences_may_be_cut(policy):
    batch = batch_of(policy)
    method = filled(SequenceMatch(length=2), policy, batch)
    assert max(len(e.rows[0]) for rows in method.buffer.samplings for e in rows) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": 1.0}, "noise is 1.0; it must lie in [0, 1)"),
        ({"noise_run": 0}, "noise_run is 0; it must be at least 1"),
        ({"noise_tokens": "x"}, "noise_tokens is 'x'; it must be one of random, plausible"),
        ({"alpha": -1.0}, "alpha is -1.0; it must be finite and at least 0"),
        ({"gamma": 0.0}, "gamma is 0.0; it must lie in (0, 1]"),
        ({"warm_up": 1.0}, "warm_up is 1.0; it must lie in [0, 1)"),
        ({"floor": 1.0}, "floor is 1.0; it must lie in [0, 1)"),
        ({"anneal": 1.5}, "anneal is 1.5; it must lie in [0, 1]"),
        ({"period": 0}, "period is 0; it must be at least 1"),
        ({"samplings": 0}, "samplings is 0; it must be at least 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"backspace": False, "noise": 0.1},
         "noise has no effect without a backspace; leave it out"),
        ({"noise": 0.0, "noise_run": 2}, "noise_run has no effect where noise is 0; leave it out"),
        ({"noise": 0.0, "noise_tokens": "random"},
         "noise_tokens has no effect where noise is 0; leave it out"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(settings, message):
    with raises(ValueError, message):
        SequenceMatch(**settings)


def test_a_vocabulary_without_backspace_is_refused():
    with pytest.raises(ValueError, match=r"^the vocabulary has no backspace, which this method"):
        BehaviorCloning().check(tiny_policy().vocabulary)


def test_no_special_token_is_planted():
    words = Vocabulary(
        ("<s>", "a", "<pad>", "</s>", "b", "<backspace>"), bos=0, pad=2, eos=3, backspace=5
    )
    wrong = BehaviorCloning().alternatives(words)
    assert wrong.allowed.tolist() == [1, 4]


def test_plausible_mistakes_need_a_task():
    with pytest.raises(ValueError, match=r"^noise_tokens=plausible needs a task that names"):
        BehaviorCloning(noise_tokens="plausible").check(WORDS)


def test_plausible_mistakes_are_asked_for_once(monkeypatch):
    asked = []
    monkeypatch.setattr(
        Task, "mistakes", lambda self, words: asked.append(words.actions) or {0: [1]}
    )
    method = BehaviorCloning(noise_tokens="plausible").for_task(Spelling())
    more = replace(WORDS, symbols=("a", "b", "<eos>", "<backspace>", "c"), bos=5, pad=6)
    for words in (WORDS, more, replace(WORDS)):
        assert method.alternatives(words).counts.tolist() == [1] + [0] * (words.actions - 1)
    assert asked == [4, 5]


@pytest.mark.parametrize(
    ("method", "extra"),
    [
        (BehaviorCloning(noise=0.0), 0),
        (BehaviorCloning(noise_run=3), 3),
        (SequenceMatch(backspace=False), 1),
        (SequenceMatch(noise=0.0), 1),
        (SequenceMatch(noise_run=3), 3),
    ],
)
def test_no_more_positions_are_read_than_told(method, extra):
    assert method.extra_positions == extra


@pytest.mark.parametrize("fitting", [True, False])
def test_targets_that_fill_all_positions(fitting):
    """Cloning reads as many as the target has, and own sequences leave room for what follows."""
    words = WORDS
    config = GPT2Config(vocab_size=words.size + 5, n_positions=9, n_embd=8, n_layer=1, n_head=2)
    policy = adapt(GPT2LMHeadModel(config).double().eval(), words, limit=8, shared=False)
    source = Source(torch.zeros(1, 3).long(), torch.ones(1, 3).bool())
    target = torch.tensor([[0, 1, 0, 1, *([] if fitting else [0]), WORDS.eos]])
    batch = Batch(torch.tensor([7]), source, target, torch.ones_like(target).bool())
    BehaviorCloning(noise=0.0).loss(policy, batch, Clock(1, 9))
    method = filled(SequenceMatch(noise=0.0, **ALWAYS), policy, batch)
    if fitting:
        method.loss(policy, batch, Clock(2, 9))
    else:
        with pytest.raises(ValueError, match="row 0 is longer than the 9 positions of the model"):
            method.loss(policy, batch, Clock(2, 9))


def test_outputs_without_eos_are_refused():
    with pytest.raises(ValueError, match=r"^sequence_match needs outputs that end in eos: "):
        SequenceMatch(backspace=False).check(Vocabulary.build("ab", eos=False))


def test_cloning_is_the_same_in_any_batch(policy):
    """Split, reordered and padded: mistakes are named by example and cell."""
    batch, clock, method = batch_of(policy), Clock(3, 9, seed=2), BehaviorCloning(noise=0.4)
    whole = method.loss(policy, batch, clock).total
    parts = [method.loss(policy, batch.select(torch.tensor(r)), clock) for r in ([4, 1], [0, 3, 2])]
    close(sum(part.total for part in parts), whole, 1e-9)
    close(method.loss(policy, padded(batch, WORDS.eos), clock).total, whole, 1e-9)


def test_own_sequences_come_without_dropout():
    policy = tiny_policy(words=WORDS, limit=8, dropout=0.5)
    batch = batch_of(policy)
    evaluated = filled(SequenceMatch(**ALWAYS), policy, batch)
    trained = filled(SequenceMatch(**ALWAYS), policy.train(), batch)
    assert policy.training
    close(tensors(trained.buffer), tensors(evaluated.buffer), 0)
