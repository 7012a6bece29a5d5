"""Erasers: after any writing and withdrawing, the scores of the remaining prefix from scratch."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from freerun.models.huggingface import adapt
from freerun.models.huggingface import writer as cache_eraser
from freerun.models.recurrent import writer as stack_eraser
from tests.helpers import close, raises, tiny_source
from tests.models.erasing import BOTH, RECURRENT, SHARED, erasing_policy
from tests.models.models import (
    ARCHITECTURES,
    plain_scores,
    text_source,
    tiny_adapted,
    tiny_model,
    words_of,
)
from tests.twins import scores_after

pytestmark = pytest.mark.kernels

LENGTHS = (3, 1, 4, 2)
CALLS = 24


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    """Erasers grow several times."""
    monkeypatch.setattr(cache_eraser, "MASK_GROWTH", 5)
    monkeypatch.setattr(stack_eraser, "STACK_GROWTH", 2)


def source_of(policy, lengths=LENGTHS):
    return (
        tiny_source(policy, lengths) if hasattr(policy, "encoder") else text_source(policy, lengths)
    )


def expected(policy, source, row, text):
    """The scores after `text`, of one row alone; of other models by their own forward pass."""
    alone = source.select(torch.tensor([row]))
    alone = type(alone)(alone.values[:, : int(alone.lengths)], alone.mask[:, : int(alone.lengths)])
    read = torch.tensor([[policy.vocabulary.bos, *text]])
    if hasattr(policy, "encoder"):
        return scores_after(policy, alone, read)
    return plain_scores(policy, alone, read)[-1]


def walk(policy, source, calls, most, *, back=0.4, kept=None, seed=0):
    """Random writing and withdrawing; the scores of every row at every call, and what stood then.

    `kept` are the rows that go on after half of the calls.
    """
    generator = torch.Generator().manual_seed(seed)
    words, rows = policy.vocabulary, list(range(len(source.lengths)))
    texts, eraser, found = [[] for _ in rows], policy.eraser(source), []
    tokens = torch.full((len(rows),), words.bos)
    withdraw = torch.zeros(len(rows), dtype=torch.bool)
    for call in range(calls):
        scores = eraser.read(tokens, withdraw)
        found += [(row, list(texts[row]), scores[i]) for i, row in enumerate(rows)]
        if kept is not None and call == calls // 2:
            rows = [rows[i] for i in kept]
            eraser.keep(torch.tensor(kept))
        tokens = torch.randint(words.eos, (len(rows),), generator=generator)
        withdraw = torch.rand(len(rows), generator=generator) < back
        withdraw |= torch.tensor([len(texts[row]) == most for row in rows])
        for i, row in enumerate(rows):
            texts[row] = texts[row][:-1] if withdraw[i] else [*texts[row], int(tokens[i])]
    return found


def tolerance(name):
    return 1e-12 if name in RECURRENT else ARCHITECTURES[name].tolerance


@pytest.mark.sample(10)
@pytest.mark.parametrize("kept", [None, (3, 0)], ids=["all", "some"])
@pytest.mark.parametrize("name", BOTH)
@torch.no_grad()
def test_scores_are_those_of_what_remains(name, kept):
    policy = erasing_policy(name)
    assert policy.can_withdraw
    source = source_of(policy)
    found = walk(policy, source, CALLS, 5, kept=kept)
    assert any(not text for _, text, _ in found[10:]), "no row came back to its prompt"
    assert max(len(text) for _, text, _ in found) == 5
    for row, text, scores in found:
        close(scores, expected(policy, source, row, text), tolerance(name))


@pytest.mark.parametrize("name", SHARED)
@torch.no_grad()
def test_other_ways_to_attend(name):
    policy = erasing_policy(name, attention="sdpa", dtype=torch.float32)
    source = source_of(policy)
    for row, text, scores in walk(policy, source, 12, 4):
        close(scores, expected(policy, source, row, text), 2e-3)


@pytest.mark.parametrize("name", ["gpt2", "gru"])
def test_sources_and_states_stay_as_they_are(name):
    """Two erasers of one policy do not know of each other."""
    policy = erasing_policy(name)
    source = source_of(policy)
    with torch.no_grad():
        one, two = policy.eraser(source), policy.eraser(source)
        tokens = torch.full((4,), policy.vocabulary.bos)
        nobody = torch.zeros(4, dtype=torch.bool)
        first = one.read(tokens, nobody)
        one.read(torch.zeros_like(tokens), nobody)
        close(two.read(tokens, nobody), first, 0.0)


@pytest.mark.parametrize("name", ["t5", "mistral", "gemma2", "bloom"])
def test_models_that_would_misplace_what_remains_are_refused(name):
    if name == "bloom":
        config = BloomConfig(vocab_size=16, hidden_size=16, n_layer=2, n_head=4)
        policy = adapt(BloomForCausalLM(config).eval(), words_of("llama"), limit=4)
    else:
        policy = tiny_adapted(name)
    message = (
        f"{type(policy.model).__name__} cannot withdraw tokens: it has relative positions that "
        "count slots, or a sliding window; use a model with absolute or rotary positions and "
        "without a window"
    )
    with raises(ValueError, message):
        policy.eraser(text_source(policy))


def test_a_window_that_is_never_reached_is_refused_too():
    words = words_of("mistral").with_backspace()
    policy = adapt(tiny_model("mistral", sliding_window=1000), words, limit=4)
    with pytest.raises(ValueError, match=r"^MistralForCausalLM cannot withdraw tokens"):
        policy.eraser(text_source(policy))


@torch.no_grad()
def test_beyond_its_positions_a_row_is_not_a_number():
    """As `step` has it; a row that ended may go on, unheard, and others are scored as ever."""
    policy = erasing_policy("gpt2", n_positions=8)
    source = source_of(policy)  # after its prompt, row 2 has 4 places left, row 0 has 5, row 3 six
    eraser = policy.eraser(source)
    nobody = torch.zeros(4, dtype=torch.bool)
    tokens = torch.zeros(4, dtype=torch.long)
    for _ in range(6):
        scores = eraser.read(tokens, nobody)
    assert scores.isnan().all(1).tolist() == [False, False, True, False]
    scores = eraser.read(tokens, torch.tensor([False, False, True, False]))
    assert scores.isnan().all(1).tolist() == [True, False, False, False]
    assert scores.isnan().any(1).tolist() == [True, False, False, False]
    close(scores[2], expected(policy, source, 2, [0] * 4), 1e-11)
