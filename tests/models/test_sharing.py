"""Rows of one source share the keys and values of its encoder."""

import pytest
import torch

from freerun.decoding import sample
from freerun.methods import MRT, SEARNN
from freerun.methods.base import Clock
from freerun.models.huggingface.sharing import SharedSources
from tests.helpers import close
from tests.models.media import media_batch, media_source, tiny_media
from tests.models.models import text_batch, text_source, tiny_adapted

TEXT = ["bart", "mbart", "marian", "pegasus", "t5"]
MEDIA = ["whisper", "speech2text", "moonshine", "vit-gpt2", "donut"]
CELLS = [2, 0, 2, 2, 0, 1, 1, 0]


def make(name, attention="eager"):
    if name in TEXT:
        policy = tiny_adapted(name)
        policy.inner.set_attn_implementation(attention)
        return policy, text_source(policy, (2, 5, 1)), text_batch(policy)
    policy = tiny_media(name, attention=attention)
    return policy, media_source(policy), media_batch(policy)


@pytest.fixture
def copied(monkeypatch):
    """Let a policy copy sources for each row."""
    return lambda policy: monkeypatch.setitem(vars(policy), "shares_sources", False)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "attention"),
    [*((name, "eager") for name in [*TEXT, *MEDIA]), ("bart", "sdpa"), ("whisper", "sdpa")],
)
def test_rows_share_the_keys_of_their_source(name, attention):
    policy, source, _ = make(name, attention)
    state = policy.start(source)
    scores, state = policy.step(state, torch.full((3,), policy.vocabulary.bos))
    tokens, rows = scores.argmax(1), torch.tensor(CELLS)
    expected, after = policy.step(state, tokens)
    forked = state.select(rows)
    assert policy.shares_sources
    assert forked.encoder.cross is state.encoder.cross
    found, forked = policy.step(forked, tokens[rows])
    close(found, expected[rows])
    # Selected again: still shared while there are more rows than sources, copied after that.
    for picked in (torch.tensor([7, 6, 4, 0, 0]), torch.tensor([6, 3])):
        chosen = forked.select(picked)
        assert (chosen.encoder.rows is None) == (len(picked) < 3)
        again, _ = policy.step(chosen, tokens[rows[picked]])
        close(again, policy.step(after, tokens)[0][rows[picked]])


@pytest.mark.parametrize("name", ["marian", "whisper", "speech2text"])
@pytest.mark.parametrize("method", [SEARNN(cost="edit_distance"), MRT(cost="edit_distance")])
def test_methods_learn_the_same_as_with_copies(name, method, copied):
    policy, _, batch = make(name)
    found = method.loss(policy, batch, Clock(0, 10, 0))
    assert policy.shares_sources
    copied(policy)
    expected = method.loss(policy, batch, Clock(0, 10, 0))
    close(found.total, expected.total)
    assert found.metrics.keys() == expected.metrics.keys()
    for metric, value in expected.metrics.items():
        close(found.metrics[metric], value)


@torch.no_grad()
def test_attention_that_cannot_be_replaced_reads_copies():
    policy, source, _ = make("vit-trocr")
    _, state = policy.step(policy.start(source), torch.full((3,), policy.vocabulary.bos))
    assert not policy.shares_sources
    assert state.select(torch.tensor(CELLS)).encoder.rows is None


def test_with_gradients_sources_are_copied():
    policy, source, _ = make("bart")
    _, state = policy.step(policy.start(source), torch.full((3,), policy.vocabulary.bos))
    assert state.select(torch.tensor(CELLS)).encoder.rows is None


@torch.no_grad()
def test_transformers_attention_is_left_as_it_was():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = ALL_ATTENTION_FUNCTIONS["sdpa"], dict(vars(ALL_ATTENTION_FUNCTIONS)["_local_mapping"])
    policy, source, _ = make("bart", "sdpa")
    sample(policy, source, ids=torch.arange(3), seed=3)
    policy.shares_sources  # noqa: B018  # a search for it replaces the attention
    after = ALL_ATTENTION_FUNCTIONS["sdpa"], vars(ALL_ATTENTION_FUNCTIONS)["_local_mapping"]
    assert after == before


def test_queries_of_a_source_are_brought_side_by_side():
    shared = SharedSources(torch.tensor([1, 0, 1, 3]), 4)
    query = torch.arange(4.0).view(4, 1, 1, 1) + 1
    grouped = shared.group(query)
    assert grouped.shape == (4, 1, 2, 1)
    assert grouped[:, 0, :, 0].tolist() == [[2, 0], [1, 3], [0, 0], [4, 0]]
    assert shared.ungroup(grouped.transpose(1, 2)).flatten().tolist() == [1, 2, 3, 4]
    assert [shared.examples[source] for source in (0, 1, 3)] == [1, 0, 3]
