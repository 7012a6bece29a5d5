"""Cost vectors: read from a search, they are what trying by hand gives."""

import pytest
import torch
from rapidfuzz.distance import Levenshtein

from freerun.methods import Clock
from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.report.cost_vectors import cost_vectors
from freerun.report.cost_vectors.values import MOST_RANKS
from tests.codecs import character_codec
from tests.helpers import searnn

TEXTS = ["ab b", " a", "bba"]
SOURCES = ["abab", "ba", "bbb"]
LEARNED = {"cost": "edit_distance", "roll_in": "learned", "roll_out": "learned"}


@pytest.fixture(scope="module")
def codec():
    return character_codec("ab ", longest=4)


@pytest.fixture(scope="module")
def policy(codec):
    """A policy with large random weights, so that its choices differ; not in evaluation mode."""
    config = RecurrentConfig.from_vocabulary(
        codec.target,
        factors=codec.factors,
        limit=codec.limit,
        hidden_size=4,
        embedding_size=3,
        dropout=0.5,
    )
    policy = RecurrentPolicy(config).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(0, 1.5, generator=generator)
    return policy


@pytest.fixture(scope="module")
def batch(codec):
    return codec.encode(
        [
            {"source": source, "target": target}
            for source, target in zip(SOURCES, TEXTS, strict=True)
        ]
    ).batch([0, 1, 2])


@pytest.fixture
def vectors(codec, policy, batch):
    """A function that searches, and reads the cost vectors of a row."""

    def read(row=0, **settings):
        method = searnn(**{**LEARNED, **settings})
        found = method.search(policy, batch, Clock(seed=5))
        return cost_vectors(found, policy, codec, batch, method, row=row, name="example")

    return read


def probabilities(policy, source, prefix):
    """Those of the next token after a prefix."""
    policy.eval()
    with torch.no_grad():
        state = policy.start(source)
        for token in [policy.vocabulary.bos, *prefix]:
            scores, state = policy.step(state, torch.tensor([token]))
    policy.train()
    return scores[0].softmax(-1)


def continued(policy, source, prefix, limit):
    """The prefix, finished greedily, eos left out."""
    tokens = list(prefix)
    while len(tokens) < limit and policy.vocabulary.eos not in tokens:
        tokens.append(int(probabilities(policy, source, tokens).argmax()))
    return [token for token in tokens if token != policy.vocabulary.eos]


@pytest.mark.parametrize("row", range(3))
def test_every_trial_is_what_trying_by_hand_gives(vectors, codec, policy, batch, row):
    found, words = vectors(row), policy.vocabulary
    source, target = batch.source.select(torch.tensor([row])), TEXTS[row]
    limit = min(codec.limit, -(-3 * (len(target) + 1) // 2))
    written = continued(policy, source, [], limit)
    cells = [*written, *[words.eos] * (len(written) < limit)]
    symbols = ["a", "b", "␣", "eos"]
    assert [cell.number for cell in found.cells] == list(range(1, len(cells) + 1))
    for place, (cell, own) in enumerate(zip(found.cells, cells, strict=True)):
        likely = probabilities(policy, source, written[:place])
        assert cell.written == symbols[own]
        reference = [*words.encode(target), words.eos]
        wanted = symbols[reference[place]] if place < len(reference) else None
        assert cell.target == wanted
        assert [trial.symbol for trial in cell.trials] == symbols
        for token, trial in enumerate(cell.trials):
            output = continued(policy, source, [*written[:place], token], limit)
            text = codec.text(output)
            assert trial.output.replace("␣", " ") == text
            assert trial.cost == Levenshtein.distance(text, target) / len(target)
            assert trial.probability == pytest.approx(float(likely[token]), abs=1e-12)
            assert trial.chosen == (token == int(likely.argmax()))
            assert trial.written == (token == own)
            assert trial.before.replace("␣", " ") == codec.text(written[:place])
            assert trial.tried == ("" if token == words.eos else symbols[token])


def test_reading_leaves_the_mode_of_the_policy(vectors, policy):
    vectors()
    assert policy.training


def test_texts_and_names(vectors, codec, batch):
    found = vectors(1)
    source = codec.source_text(batch.source.values[1, batch.source.mask[1]])
    assert len(source) == 2
    shown = found.lines
    assert list(shown) == ["source", "target", "roll-in", "cost", "search"]
    assert shown["source"].replace("␣", " ") == source
    assert shown["target"] == "␣a"
    assert shown["cost"] == "edit distance"
    assert shown["search"] == "roll-in learned, roll-out learned"


def test_a_sentence_is_the_same_alone(vectors, codec, policy, batch):
    method = searnn(**LEARNED)
    alone = batch.select(torch.tensor([2]))
    found = method.search(policy, alone, Clock(seed=5))
    one, other = vectors(2), cost_vectors(found, policy, codec, alone, method, name="example")
    assert one.lines == other.lines
    for cell, twin in zip(one.cells, other.cells, strict=True):
        for trial, again in zip(cell.trials, twin.trials, strict=True):
            assert trial.probability == pytest.approx(again.probability, abs=1e-12)
            assert (trial.symbol, trial.cost, trial.output) == (
                again.symbol, again.cost, again.output
            )  # fmt: skip


def test_under_a_reference_roll_in_the_choice_may_be_another_token(vectors):
    found = vectors(0, roll_in="reference")
    assert [cell.written for cell in found.cells] == ["a", "b", "␣", "b", "eos"]
    assert [cell.target for cell in found.cells] == [cell.written for cell in found.cells]
    assert all(sum(trial.written for trial in cell.trials) == 1 for cell in found.cells)
    assert any(not trial.written for cell in found.cells for trial in cell.trials if trial.chosen)


def test_few_tokens_are_ranked(vectors):
    whole, few = vectors(), vectors(token_choice="uniform", tokens=2, roll_in="reference")
    assert whole.grid
    assert not few.grid
    assert few.order == "rows: the tokens of a cell, the cheapest first"
    assert whole.order == ""
    for cell, reference in zip(few.cells, ["a", "b", "␣", "b", "eos"], strict=True):
        assert len(cell.trials) == 2
        assert reference in [trial.symbol for trial in cell.trials]
        assert cell.trials[0].cost <= cell.trials[1].cost
    assert [name for name, _ in few.rows()] == ["1", "2"]
    assert [name for name, _ in whole.rows()] == ["a", "b", "␣", "eos"]
    untried = [cell.chosen for cell in few.cells if cell.chosen is None]
    assert untried, "the policy's choice was tried everywhere: another seed shows more"


def test_the_search_is_named(vectors):
    settings = {"roll_in": "mixed_cells", "roll_out": "mixed"}
    found = vectors(**settings, cells=2, token_choice="top_k", tokens=3)
    assert found.search == ("roll-in mixed cells, roll-out mixed, 2 cells, 3 tokens a cell (top k)")
    assert len(found.cells) == 2


@pytest.mark.parametrize(
    ("cost", "name"),
    [("bleu", "1 − BLEU"), ("bleu_1", "1 − BLEU-1"), ("gleu", "1 − GLEU")],
)
def test_costs_that_are_losses_of_a_gain_are_named_so(vectors, cost, name):
    assert vectors(cost=cost).cost == name


def test_a_cost_of_ones_own_is_named_by_its_function(vectors):
    def surplus(hypotheses, lengths, references, reference_lengths):
        return (lengths - reference_lengths).double()

    found = vectors(cost=surplus)
    assert found.cost == "surplus"
    assert found.limits[0] < 0


def test_very_many_tokens_are_cut_where_they_are_dearest(vectors):
    found = vectors(token_choice="top_k", tokens=4)
    (cell, *_), most = found.cells, MOST_RANKS + 5
    many = (cell.trials * most)[:most]
    changed = type(cell)(1, "a", None, many)
    longer = type(found)("x", "c", "s", None, "", "", (changed,), grid=False)
    assert len(longer.rows()) == MOST_RANKS
    assert longer.hidden == 5
    assert longer.order == (
        "rows: the tokens of a cell, the cheapest first; 5 dearer ones are not shown"
    )
