"""SEARNN equals its twin, which goes through one roll-out at a time, on every option."""

import itertools
import random
from typing import get_args

import pytest

from freerun.losses import CELL_LOSSES
from freerun.methods import SEARNN, Clock
from freerun.references import DEFAULT_REFERENCES
from freerun.settings import list_settings
from freerun.vocabulary import Vocabulary
from tests.helpers import close, gradients, searnn, tiny_batch, tiny_policy
from tests.models.kinds import KINDS, policy_of
from tests.searnn_twin import twin_loss, twins

CLOCK = Clock(3, total=9, seed=1)
FREE = ("edit_distance", "bleu", "bleu_1", "gleu")
TAGS = ("O", "B-A", "I-A", "B-B")
ROLL_INS = ("reference", "learned", "mixed", "mixed_cells")
ROLL_OUTS = ("reference", "learned", "mixed", "focused")


def batch_of(policy, seed=0):
    """Sentences of different lengths, one of a single token."""
    return tiny_batch(policy, lengths=(4, 1, 3), targets=(5, 1, 3), seed=seed)


def check_search(method, policy, batch, clock=CLOCK):
    """Cells, tokens, outputs, costs and the number of decoder steps; gives the twins."""
    found, plain = method.search(policy, batch, clock), twins(method, policy, batch, clock)
    lengths = found.roll_in.lengths.tolist()
    rows = zip(found.roll_in.tokens.tolist(), lengths, strict=True)
    assert [row[:length] for row, length in rows] == [twin.roll_in for twin in plain]
    cells = [(row, cell) for row, twin in enumerate(plain) for cell in twin.tried]
    assert found.cells.nonzero().tolist() == [list(place) for place in cells]
    outputs = zip(found.outputs.tokens.tolist(), found.outputs.lengths.tolist(), strict=True)
    tolerance = 1e-15 if method.cost in ("bleu", "bleu_1") else 0
    for i, (row, cell) in enumerate(cells):
        tried = plain[row].tried[cell]
        counts = found.mask[i].tolist()
        tokens = list(itertools.compress(found.tokens[i].tolist(), counts))
        assert len(tokens) == len(set(tokens))
        assert set(tokens) == set(tried)
        for token, cost in zip(
            tokens, itertools.compress(found.costs[i].tolist(), counts), strict=True
        ):
            output, length = next(outputs)
            assert output[:length] == tried[token][0]
            assert abs(cost - tried[token][1]) <= tolerance
        assert found.costs[i][~found.mask[i]].isposinf().all()
    assert next(outputs, None) is None
    assert not found.outputs.open.any()
    assert found.outputs.steps == sum(twin.steps for twin in plain)
    return plain


def check_loss(method, policy, batch, clock=CLOCK, tolerance=1e-12):
    """The loss and its gradient."""
    outcome, expected = method.loss(policy, batch, clock), twin_loss(method, policy, batch, clock)
    scale = max(1.0, float(expected.detach().abs()))
    close(outcome.total, expected, tolerance * scale)
    found, gradient = gradients(policy, outcome.total), gradients(policy, expected)
    most = max(1.0, *(float(g.abs().max()) for g in gradient.values()))
    close(found, gradient, tolerance * most)
    assert int(outcome.count) == int(batch.mask.sum())


@pytest.mark.parametrize("roll_out", ROLL_OUTS)
@pytest.mark.parametrize("roll_in", ROLL_INS)
def test_who_writes(roll_in, roll_out):
    for turn, (eos, cost) in enumerate([(True, "edit_distance"), (False, "hamming")]):
        policy = tiny_policy(4, eos=eos, limit=6, seed=turn)
        focus = {"focus": 1, "focus_end": 4} if roll_out == "focused" else {}
        method = searnn(roll_in=roll_in, roll_out=roll_out, cost=cost, **focus)
        check_search(method, policy, batch_of(policy))


def test_a_row_that_ends_while_few_others_do():
    """It stays in the batch for a while, where the reference policy has nothing to say about it."""
    words = Vocabulary.build(TAGS, eos=False)
    policy = tiny_policy(words=words, eos=False, attention="aligned")
    batch = tiny_batch(policy, lengths=(2, 5, 5, 5, 5))
    method = searnn(roll_in="mixed_cells", roll_out="reference", cost="chunk_f1")
    check_search(method, policy, batch)


@pytest.mark.parametrize("turn", range(0, len(KINDS), 3))
def test_every_kind_of_policy(turn):
    """Cells, layers, ways to look at the source, input feeding, sources; with eos and without."""
    policy = policy_of(turn, limit=6)
    cost = "hamming" if policy.vocabulary.eos is None else FREE[turn % 4]
    method = searnn(roll_in="mixed_cells", roll_out="learned", reference="copy", cost=cost)
    check_search(method, policy, batch_of(policy))
    check_loss(method, policy, batch_of(policy))


def policy_and_costs(draw):
    """A policy, and the costs and reference policies that suit what it writes."""
    seed = draw.randrange(100)
    kind = draw.choice(KINDS)
    look = {"input_feeding": kind.get("input_feeding", False), "cell": kind["cell"]}
    if draw.random() < 0.5:
        words = Vocabulary.build("abcd", eos=True, unknown=draw.random() < 0.3)
        attention = draw.choice(["additive", "general"])
        costs = FREE
        references = ("copy", *(DEFAULT_REFERENCES[cost] for cost in FREE), "best_suffix_bleu")
        limit = draw.choice([2, 5, 9])
        return (
            tiny_policy(words=words, limit=limit, attention=attention, seed=seed, **look),
            costs,
            references,
        )
    words = Vocabulary.build(TAGS, eos=False, unknown=draw.random() < 0.3)
    costs, references = ("hamming", "hamming_total", "chunk_f1"), ("copy", "max_f1")
    return (
        tiny_policy(words=words, eos=False, attention="aligned", seed=seed, **look),
        costs,
        references,
    )


def any_settings(draw, costs, references):
    """Settings drawn from all that can be had together."""
    chosen = {
        "roll_in": draw.choice(ROLL_INS),
        "roll_out": draw.choice(ROLL_OUTS),
        "cost": draw.choice(costs),
        "cell_loss": draw.choice(list(CELL_LOSSES)),
        "token_choice": draw.choice(get_args(list_settings(SEARNN)["token_choice"].kind)),
    }
    more = {}
    if (chosen["roll_in"], chosen["roll_out"]) != ("reference", "reference"):
        more["stretch"] = draw.choice([1.0, 1.25, 2.0])
    if chosen["roll_out"] != "reference":
        more["at_once"] = draw.choice([1, 3, 10_000])
    if chosen["roll_in"].startswith("mixed"):
        more["roll_in_share"] = draw.choice([0.0, 0.3, 0.7, 1.0])
    if chosen["roll_out"] == "mixed":
        more["roll_out_share"] = draw.choice([0.0, 0.3, 0.7, 1.0])
    if chosen["roll_out"] == "focused":
        more |= {"focus": draw.choice([0, 1, 2]), "focus_end": draw.choice([0, 3, 20])}
    if chosen["roll_out"] != "learned" or chosen["roll_in"] == "mixed_cells":
        more["reference"] = draw.choice(references)
    if draw.random() < 0.5:
        chosen["cells"] = draw.choice([1, 2, 20])
    if chosen["token_choice"] != "all":
        near = draw.choice([1, 2, 4])
        chosen["tokens"] = draw.choice([near + 1, near + 2, 25])
        if chosen["token_choice"] == "neighbors":
            chosen["neighbors"] = near
    if chosen["cell_loss"] not in ("ll", "consistent"):
        more["alpha"] = draw.choice([0.5, 3.0, 200.0])
    if chosen["token_choice"] == "biased":
        more["bias"] = draw.choice([0.0, 0.7])
    if chosen["token_choice"] == "targeted":
        more["gap"] = draw.choice([0.0, 0.1, 0.5])
    # Half of these are left to their defaults.
    return searnn(**chosen, **{name: value for name, value in more.items() if draw.random() < 0.5})


def check_any(number):
    draw = random.Random(number)
    policy, costs, references = policy_and_costs(draw)
    method = any_settings(draw, costs, references)
    batch, clock = batch_of(policy, number), Clock(draw.randrange(12), total=9, seed=number)
    check_search(method, policy, batch, clock)
    check_loss(method, policy, batch, clock)


@pytest.mark.sample(20)
@pytest.mark.parametrize("number", range(50))
def test_any_settings(number):
    check_any(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(50, 1000))
def test_any_settings_at_length(number):
    check_any(number)
