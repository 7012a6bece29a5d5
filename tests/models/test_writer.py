"""The recurrent writer where it leaves the plain way farthest; the rest is in the contract."""

from functools import partial

import pytest
import torch

from freerun.batch import Source
from freerun.models.recurrent import projection
from freerun.models.recurrent.kernels import PAGE_ROWS, Buffers, Pages
from freerun.policy import StepWriter
from freerun.vocabulary import Vocabulary
from tests.helpers import close, tiny_batch, tiny_policy
from tests.models.kinds import KINDS, name, policy_of

pytestmark = pytest.mark.kernels


def large(**settings):
    """A policy in single precision with more words than are projected at once."""
    words = Vocabulary.build([str(i) for i in range(projection.MIN_SHORTLIST_TOKENS + 5)], eos=True)
    sizes = {"hidden_size": 16, "embedding_size": 8}
    return tiny_policy(words=words, scale=0.5, limit=9, **sizes, **settings).float()


def written(writer, policy, batch, rows, steps=5):
    trace = policy.force(batch.source, batch.inputs(policy.vocabulary.bos))
    origins, cells = batch.mask.nonzero().unbind(1)
    writer.begin(trace.fork(origins, cells), rows)
    tokens, found = torch.zeros_like(rows), []
    for _ in range(steps):
        tokens = writer.write(tokens)
        found.append(tokens)
    return torch.stack(found, 1)


@torch.no_grad()
@pytest.mark.parametrize("turn", range(len(KINDS)), ids=[name(kind) for kind in KINDS])
def test_many_rows_of_few_sentences(turn):
    policy = policy_of(turn)
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2), targets=(2, 4, 1, 3))
    rows = torch.randint(
        int(batch.mask.sum()), (5 * PAGE_ROWS + 3,), generator=torch.Generator().manual_seed(1)
    )
    found = written(policy.writer(), policy, batch, rows)
    assert torch.equal(found, written(StepWriter(policy), policy, batch, rows))


@torch.no_grad()
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("kind", [{"attention": "additive"}, {"cell": "lstm", "layers": 2}])
def test_large_vocabularies(kind, quick, monkeypatch):
    """With and without a shortlist; rows enough for a table of all words, and too few."""
    monkeypatch.setattr(projection, "has_bfloat16", lambda device: quick)
    policy = large(**kind)
    batch = tiny_batch(policy)
    for count in (7, 2100):
        rows = torch.arange(count) % int(batch.mask.sum())
        writer = policy.writer()
        assert (writer.projection.shortlist is not None) == quick
        found = written(writer, policy, batch, rows, 3)
        assert (writer.token_table is not None) == (count > 1000)
        assert torch.equal(found, written(StepWriter(policy), policy, batch, rows, 3))


@torch.no_grad()
def test_scores_are_shown_some_rows_at_a_time():
    policy = large()
    batch = tiny_batch(policy)
    rows = torch.arange(2100) % int(batch.mask.sum())
    writer, state = policy.writer(), policy.start(batch.source)
    writer.begin(state, rows % 4)
    expected, _ = policy.step(state.select(rows % 4), torch.zeros_like(rows))
    seen = []

    def choose(scores, which):
        seen.append(which)
        close(scores, expected[which], 1e-4)
        return scores.argmin(1)

    tokens = writer.write(torch.zeros_like(rows), choose)
    assert len(seen) > 1
    assert torch.equal(torch.cat(seen), torch.arange(len(rows)))
    assert torch.equal(tokens, expected.argmin(1))


def test_pages_hold_rows_of_one_sentence():
    sentence = torch.randint(5, (100,), generator=torch.Generator().manual_seed(0))
    sentence[sentence == 3] = 1
    pages = Pages.arrange(sentence, 6)
    assert len(pages.place.unique()) == 100
    assert torch.equal(pages.sentence[pages.place // PAGE_ROWS], sentence)
    counts = torch.bincount(sentence, minlength=6)
    assert len(pages.sentence) == int(((counts + PAGE_ROWS - 1) // PAGE_ROWS).sum())


def test_buffers_grow_and_are_used_again():
    buffers = Buffers(torch.zeros(1, dtype=torch.float64))
    first = buffers.get("a", 3, 4)
    assert (first.shape, first.dtype) == ((3, 4), torch.float64)
    assert buffers.get("a", 2, 5).data_ptr() == first.data_ptr()
    assert buffers.get("b", 3, 4).data_ptr() != first.data_ptr()
    assert buffers.get("a", 3, 4, dtype=torch.float32).data_ptr() != first.data_ptr()
    assert buffers.get("a", 40, 4).shape == (40, 4)


# Lower precision


@torch.no_grad()
@pytest.mark.parametrize("turn", range(0, len(KINDS), 3))
def test_autocast_chooses_the_precision_of_products(turn):
    """Scores are those of single precision up to a few digits, and states are kept in it."""
    policy = policy_of(turn).float()
    batch = tiny_batch(policy, lengths=(3, 1, 4, 2), targets=(2, 4, 1, 3))
    values = batch.source.values
    source = Source(values.float() if values.is_floating_point() else values, batch.source.mask)
    rows = torch.arange(40) % 4
    seen = {}
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            writer = policy.writer()
            writer.begin(policy.start(source), rows)
            tokens, seen[low] = rows % 3, []
            for _ in range(3):
                writer.write(tokens, partial(seeing, seen[low]))
        assert {state.dtype for states in writer.states for state in states} == {torch.float32}
    close(torch.stack(seen[True]), torch.stack(seen[False]), 0.3)
    assert not torch.equal(seen[True][0], seen[False][0])


def seeing(seen, scores, rows):
    """A choice that does not depend on scores, and keeps them."""
    seen.append(scores.clone())
    return rows % 3


@torch.no_grad()
def test_a_large_vocabulary_in_lower_precision(monkeypatch):
    """The best token by a product in bfloat16 is, in full precision, at least nearly the best."""
    monkeypatch.setattr(projection, "has_bfloat16", lambda device: True)
    policy = large(attention="general")
    batch = tiny_batch(policy)
    rows = torch.arange(70) % 4
    state, tokens = policy.start(batch.source), torch.zeros_like(rows)
    with torch.autocast("cpu", torch.bfloat16):
        writer = policy.writer()
        writer.begin(state, rows)
        found = writer.write(tokens)
    assert writer.projection.shortlist is not None
    scores, _ = policy.step(state.select(rows), tokens)
    short = scores.amax(1) - scores.gather(1, found[:, None])[:, 0]
    assert float(short.max()) < 0.02 * float(scores.max())
