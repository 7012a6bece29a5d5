"""Decoding with a backspace: as a plain loop with a stack that recomputes every prefix."""

from math import exp

import pytest
import torch

from freerun.decoding import (
    Decoded,
    backtrack,
    decode_with,
    greedy,
    sample,
    sample_tokens,
    truncated_log_probs,
)
from freerun.decoding.loop import CHECK_EVERY
from freerun.policy import Eraser, Policy
from tests.helpers import agreement, chain, tiny_policy, tiny_source, vocabulary
from tests.models.erasing import BOTH, erasing_policy
from tests.models.models import text_source
from tests.twins import scores_after, twin_backtrack

LENGTHS = (3, 1, 4, 2, 5, 6, 2, 3)
LIMIT = 9


@pytest.fixture(params=BOTH)
def policy(request):
    return erasing_policy(request.param, limit=LIMIT)


@pytest.fixture(params=[1, 4], ids=["always", "every-fourth-cell"])
def look(request, monkeypatch):
    """How often it is seen which rows have ended, as on machines where looking is slow."""
    monkeypatch.setitem(CHECK_EVERY, "cpu", request.param)


def source_of(policy, lengths=LENGTHS, seed=1):
    kind = tiny_source if hasattr(policy, "encoder") else text_source
    return kind(policy, lengths, seed=seed)


def one(source, row):
    return source.select(torch.tensor([row]))


def rows_of(tokens, lengths):
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def acted(decoded):
    return rows_of(decoded.actions, decoded.action_lengths)


def agrees(decoded, twins, words):
    """Assert that rows are those of the twins, and nothing but padding lies behind them."""
    assert acted(decoded) == [actions for actions, _ in twins]
    assert rows_of(decoded.tokens, decoded.lengths) == [text for _, text in twins]
    assert decoded.ended.tolist() == [actions[-1] == words.eos for actions, _ in twins]
    assert decoded.actions.shape[1] == int(decoded.action_lengths.max())
    assert decoded.tokens.shape[1] == int(decoded.lengths.max())
    actions, mask = decoded.all_actions
    assert torch.equal(actions, decoded.actions)
    assert torch.equal(mask.sum(1), decoded.action_lengths)
    assert bool((actions[~mask] == words.pad).all())
    lies = torch.arange(decoded.tokens.shape[1]) < decoded.lengths[:, None]
    assert bool((decoded.tokens[~lies] == words.pad).all())


def draw(policy, ids, row, seed, **truncation):
    """How `sample` draws, by its documented names."""

    def choose(scores, cell):
        log_probs = truncated_log_probs(scores[None], **truncation)
        return sample_tokens(log_probs, seed, "sample", ids[row : row + 1], cell)[0]

    return choose


def withdrawals(decoded, words):
    """How many tokens were withdrawn."""
    actions, mask = decoded.all_actions
    return int((mask & (actions != words.backspace)).sum() - decoded.lengths.sum())


@pytest.mark.sample(8)
@pytest.mark.usefixtures("look")
@torch.no_grad()
def test_greedy_is_the_plain_loop(policy):
    source = source_of(policy)
    decoded = greedy(policy, source)
    assert withdrawals(decoded, policy.vocabulary) > 2
    twins = [
        twin_backtrack(
            policy, one(source, row), lambda s, _: s.argmax(), LIMIT, forbid_repeats=True
        )
        for row in range(len(LENGTHS))
    ]
    agrees(decoded, twins, policy.vocabulary)


@pytest.mark.sample(12)
@pytest.mark.usefixtures("look")
@pytest.mark.parametrize("truncation", [{"temperature": 5.0}, {"temperature": 2.0, "top_k": 3}])
@torch.no_grad()
def test_samples_are_those_of_the_plain_loop(policy, truncation):
    source, ids = source_of(policy), torch.arange(100, 100 + len(LENGTHS))
    decoded = sample(policy, source, ids=ids, seed=5, **truncation)
    assert withdrawals(decoded, policy.vocabulary) > 2
    twins = [
        twin_backtrack(policy, one(source, row), draw(policy, ids, row, 5, **truncation), LIMIT)
        for row in range(len(LENGTHS))
    ]
    agrees(decoded, twins, policy.vocabulary)


@torch.no_grad()
def log_probs_of(policy, source, limit, **truncation):
    """log p of all sequences of actions of one sentence: after each, the state is what remains."""
    words, known = policy.vocabulary, {}
    found = dict.fromkeys(everything(words, limit), 0.0)
    for actions in found:
        text = ()
        for action in actions:
            if text not in known:
                scores = scores_after(policy, source, torch.tensor([[words.bos, *text]]))
                known[text] = truncated_log_probs(scores[None], **truncation)[0].tolist()
            found[actions] += known[text][action]
            text = text[:-1] if action == words.backspace else (*text, action)
    return found


def everything(words, limit, actions=()):
    """All sequences of actions: those that end in eos, and those of `limit`."""
    if len(actions) == limit or words.eos in actions:
        yield actions
        return
    for action in range(words.actions):
        yield from everything(words, limit, (*actions, action))


@pytest.mark.parametrize(
    "truncation",
    [{}, {"temperature": 0.7, "top_k": 3}, {"top_p": 0.9}],
    ids=["plain", "top-k", "top-p"],
)
@pytest.mark.parametrize("name", ["attention", "llama"])
def test_samples_and_their_log_probs_are_those_of_the_sampler(name, truncation):
    policy = erasing_policy(name, limit=4, letters="ab") if name == "llama" else small(4)
    source, draws = source_of(policy, (3,)), 4000
    expected = log_probs_of(policy, source, 4, **truncation)
    assert sum(map(exp, expected.values())) == pytest.approx(1, abs=1e-9)
    many = source.select(torch.zeros(draws, dtype=torch.long))
    decoded = sample(policy, many, ids=torch.arange(draws), seed=2, **truncation)
    counts = dict.fromkeys(expected, 0)
    for actions, found in zip(acted(decoded), decoded.log_probs.tolist(), strict=True):
        counts[tuple(actions)] += 1
        assert found == pytest.approx(expected[tuple(actions)], abs=1e-4)
    probabilities = {actions: exp(value) for actions, value in expected.items()}
    backs = policy.vocabulary.backspace
    assert sum(backs in a[1:] and p * draws > 8 for a, p in probabilities.items()) > 5
    assert agreement(counts, probabilities) > 0.01


def small(limit, **settings):
    """Two letters, eos and backspace, none of them rare."""
    words = vocabulary(3).with_backspace()
    return tiny_policy(limit=limit, words=words, attention="general", scale=0.5, **settings)


@torch.no_grad()
def test_limits_count_actions(policy):
    source, limit = source_of(policy), torch.tensor([1, 2, 3, 4, 5, 6, 7, 1])
    ids = torch.arange(len(LENGTHS))
    free = sample(policy, source, ids=ids, seed=1, temperature=5.0)
    bound = sample(policy, source, ids=ids, seed=1, temperature=5.0, limit=limit)
    for row, most in enumerate(limit.tolist()):
        assert acted(bound)[row] == acted(free)[row][:most]
        assert bool(bound.ended[row]) == (acted(bound)[row][-1] == policy.vocabulary.eos)
    assert bool((free.action_lengths <= LIMIT).all())
    assert not bool((bound.lengths > limit).any())


class Table(Policy):
    """A policy whose scores are told by what remains: `table[text]`; it can withdraw tokens."""

    def __init__(self, table, limit):
        super().__init__()
        self.vocabulary, self.table, self.most = vocabulary(4).with_backspace(), table, limit

    def limit(self, source):
        return torch.full_like(source.lengths, self.most)

    def eraser(self, source):
        return TableEraser(self.table, len(source.lengths))

    def start(self, source):
        raise NotImplementedError

    step = force = embed = start


class TableEraser(Eraser):
    def __init__(self, table, rows):
        self.table, self.texts = table, [None] * rows

    def read(self, tokens, withdraw):
        for row, (token, back) in enumerate(zip(tokens.tolist(), withdraw.tolist(), strict=True)):
            text = self.texts[row]
            self.texts[row] = "" if text is None else text[:-1] if back else text + "abc."[token]
        scores = [self.table.get(text, [0.0, 0.0, 0.0, 1.0, 0.0]) for text in self.texts]
        return torch.tensor(scores, dtype=torch.float64)

    def keep(self, rows):
        self.texts = [self.texts[row] for row in rows.tolist()]


def told(*tables, limit=20):
    """What greedy decoding does by a table, in letters: `.` is eos, `<` a backspace."""
    policy = Table(tables[0], limit)
    source = tiny_source(tiny_policy(), (2,))
    decoded = greedy(policy, source)
    return "".join("abc.<"[token] for token in acted(decoded)[0])


def test_greedy_does_not_write_what_it_withdrew():
    # After "a" it always goes back, and at the prompt it likes a, then b, then c.
    table = {"": [3.0, 2.0, 1.0, 0.0, 9.0], "a": [0, 0, 0, 0, 5.0], "b": [0, 0, 0, 0, 5.0]}
    assert told(table) == "a<b<c."


def test_greedy_remembers_what_it_withdrew_below():
    table = {
        "": [3.0, 2.0, 0.0, 0.0, 0.0],
        "a": [5.0, 4.0, 0.0, 0.0, 3.0],
        "aa": [0, 0, 0, 0, 5.0],
        "ab": [0, 0, 0, 0, 5.0],
        "b": [5.0, 0.0, 0.0, 1.0, 0.0],
        "ba": [0, 0, 0, 0, 5.0],
    }
    # In "a" it gives up a and b, then "a" itself; in "b" the letter a is free again.
    assert told(table) == "aa<b<<ba<."


def test_a_prefix_that_was_left_keeps_no_memory():
    """By force, as greedy decoding itself does not return to a prefix that it gave up."""
    words = vocabulary(4).with_backspace()
    table = {"": [3.0, 2.0, 0, 0, 0], "a": [0.0, 5.0, 4.0, 0.0, 0.0]}
    script = {0: "a", 1: "b", 2: "<", 4: "<", 5: "<", 6: "a"}
    seen = []

    def choose(scores, rows, cell):
        seen.append(scores[0].tolist())
        action = "abc.<".index(script[cell]) if cell in script else int(scores[0].argmax())
        return torch.tensor([action]), torch.zeros(1)

    source = tiny_source(tiny_policy(), (2,))
    decoded = backtrack(Table(table, 8), source, choose, forbid_repeats=True)
    assert "".join("abc.<"[token] for token in acted(decoded)[0]) == "ab<c<<ab"
    no = -torch.inf
    assert words.backspace == 4
    assert seen[0] == [3.0, 2.0, 0.0, 0.0, no]
    assert seen[1] == table["a"]
    assert seen[3] == [0.0, no, 4.0, 0.0, 0.0]
    assert seen[5] == [0.0, no, no, 0.0, 0.0]
    assert seen[6] == [no, 2.0, 0.0, 0.0, no]
    assert seen[7] == table["a"]


def test_sampling_follows_the_policy_where_it_goes_round():
    """What greedy decoding rules out, samples may do."""
    table = {"": [30.0, 0, 0, 0, 0], "a": [0, 0, 0, 0, 30.0]}
    source = tiny_source(tiny_policy(), (2,))
    decoded = sample(Table(table, 7), source, ids=torch.zeros(1, dtype=torch.long), seed=0)
    assert acted(decoded) == [[0, 4, 0, 4, 0, 4, 0]]
    assert decoded.tokens.tolist() == [[0]]
    assert decoded.ended.tolist() == [False]


def test_a_text_may_come_to_nothing():
    table = {"": [0, 0, 0, 0, 30.0]}
    source = tiny_source(tiny_policy(), (2,))
    decoded = sample(Table(table, 3), source, ids=torch.zeros(1, dtype=torch.long), seed=0)
    assert acted(decoded) == [[4, 4, 4]]
    assert decoded.tokens.shape == (1, 0)
    assert decoded.lists(3) == [[]]


def test_greedy_log_probs_are_of_what_it_may_do():
    table = {"": [3.0, 2.0, 1.0, 0.0, 9.0], "a": [0, 0, 0, 0, 5.0], "b": [0, 0, 0, 5.0, 0]}
    source = tiny_source(tiny_policy(), (2,))
    decoded = greedy(Table(table, 9), source)
    parts = [([3, 2, 1, 0], 0), ([0, 0, 0, 0, 5], 4), ([2, 1, 0], 0), ([0, 0, 0, 5, 0], 3)]
    expected = sum(float(torch.tensor(s).double().log_softmax(0)[i]) for s, i in parts)
    assert float(decoded.log_probs[0]) == pytest.approx(expected, abs=1e-6)


def test_without_backspace_actions_are_the_tokens():
    policy = chain()
    decoded = greedy(policy, policy.source(0, 1))
    assert decoded.actions is None
    assert decoded.action_lengths is None
    tokens, mask = decoded.all_actions
    assert torch.equal(tokens, decoded.tokens)
    assert torch.equal(mask.sum(1), decoded.lengths)


def best(scores, rows, cell):
    return scores.argmax(-1), torch.zeros(len(rows))


def test_what_cannot_be_done_is_refused():
    policy = small(4)
    source = source_of(policy)
    message = (
        "keep_scores is for policies without backspace: scores of withdrawn cells belong to no "
        "token of the result"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        greedy(policy, source, keep_scores=True)
    with pytest.raises(ValueError, match=r"^the limit of row 0 is 0; it must be at least 1$"):
        greedy(policy, source, limit=torch.zeros_like(source.lengths))
    plain = chain()
    message = r"^the vocabulary has no backspace; see Vocabulary.with_backspace$"
    with pytest.raises(ValueError, match=message):
        backtrack(plain, plain.source(0), best)
    plain.vocabulary = plain.vocabulary.with_backspace()
    with pytest.raises(ValueError, match=r"^Chain cannot withdraw tokens: override eraser$"):
        decode_with(plain, plain.source(0), best)


def test_a_row_of_not_a_number_is_alone_with_it():
    policy = small(6)
    source = source_of(policy)
    expected = acted(greedy(policy, source))

    class Poisoned(Eraser):
        def __init__(self, eraser):
            self.eraser, self.rows = eraser, torch.arange(len(LENGTHS))

        def read(self, tokens, withdraw):
            scores = self.eraser.read(tokens, withdraw)
            return scores.masked_fill((self.rows == 2)[:, None], torch.nan)

        def keep(self, rows):
            self.eraser.keep(rows)
            self.rows = self.rows[rows]

    policy.eraser = lambda source: Poisoned(type(policy).eraser(policy, source))
    found = acted(greedy(policy, source))
    assert [row for i, row in enumerate(found) if i != 2] == expected[:2] + expected[3:]


def test_it_decodes_in_evaluation_mode_and_leaves_modes_as_they_were():
    policy = erasing_policy("gpt2", dropout=0.5)
    source = source_of(policy)
    expected = acted(greedy(policy, source))
    policy.train()
    assert acted(greedy(policy, source)) == expected
    assert all(module.training for module in policy.modules())
    assert isinstance(greedy(policy, source), Decoded)


def test_generation_settings_do_not_leak():
    policy = erasing_policy("gpt2")
    source = source_of(policy)
    ids = torch.arange(len(LENGTHS))
    expected = acted(sample(policy, source, ids=ids, seed=0)), acted(greedy(policy, source))
    settings = policy.model.generation_config
    settings.do_sample, settings.top_k, settings.temperature = True, 1, 0.01
    settings.max_new_tokens, settings.repetition_penalty = 1, 9.0
    found = acted(sample(policy, source, ids=ids, seed=0)), acted(greedy(policy, source))
    assert found == expected
