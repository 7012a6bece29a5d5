"""Hugging Face models as policies: the contract for every architecture, and their own scores."""

import itertools

import pytest
import torch

from freerun.batch import Source
from freerun.models import CausalPolicy, Seq2SeqPolicy
from freerun.testing import PolicyContract
from tests.helpers import close, gradients, single
from tests.models.models import (
    ARCHITECTURES,
    plain_scores,
    text_batch,
    text_source,
    tiny_adapted,
)

CONTRACT = [
    ("llama", "sdpa", True),
    ("qwen2", "eager", True),
    ("gpt2", "eager", False),
    ("mistral", "sdpa", True),
    ("t5", "eager", True),
    ("bart", "sdpa", True),
]
EVERY = [
    (name, attention, shared)
    for name in ARCHITECTURES
    for attention in ("eager", "sdpa")
    for shared in (True, False)
    if (name, attention) != ("gemma2", "sdpa")  # which transformers does not have
]
TURNS = dict(zip(ARCHITECTURES, itertools.cycle((True, False)), strict=False)) | {"gemma2": True}
QUICK = [kind for kind in EVERY if (kind[1] == "eager") == kind[2] == TURNS[kind[0]]] + CONTRACT[:1]
"""Of each architecture one kind, with either attention and both ways to write sources in turn."""


def title(kind):
    """What a kind is called in the report of a test run."""
    return f"{kind[0]}-{kind[1]}" if kind[2] else f"{kind[0]}-{kind[1]}-own-sources"


def params(quick):
    """Every kind; those that are not among `quick` are slow."""
    return [
        pytest.param(kind, id=title(kind), marks=[] if kind in quick else pytest.mark.slow)
        for kind in EVERY
    ]


def policy_of(kind, **settings):
    name, attention, shared = kind
    return tiny_adapted(name, attention=attention, shared=shared, **settings)


class TestContract(PolicyContract):
    """The protocol."""

    @pytest.fixture(scope="class", params=params(CONTRACT))
    @classmethod
    def kind(cls, request):
        return request.param

    @pytest.fixture(scope="class")
    @classmethod
    def policy(cls, kind):
        return policy_of(kind)

    @pytest.fixture(scope="class")
    @classmethod
    def batch(cls, kind, policy):
        return text_batch(policy)

    @pytest.fixture(autouse=True)
    def promises(self, kind, policy):
        architecture = ARCHITECTURES[kind[0]]
        self.tolerance = architecture.tolerance
        assert policy.reads_trees == policy.can_withdraw == architecture.trees
        assert policy.continues_rows
        self.reads_bos = not (architecture.causal and kind[2])


@pytest.fixture(params=params(QUICK))
def kind(request):
    return request.param


def stepped(policy, source, inputs):
    """Scores of all cells, step by step."""
    state, found = policy.start(source), []
    for cell in range(inputs.shape[1]):
        scores, state = policy.step(state, inputs[:, cell])
        found.append(scores)
    return torch.stack(found, 1)


def test_scores_are_those_of_the_model_alone(kind):
    """Of rows in one pass, of steps, and their gradients, with prompts of one token and more."""
    policy, tolerance = policy_of(kind), ARCHITECTURES[kind[0]].tolerance
    assert type(policy) is (CausalPolicy if ARCHITECTURES[kind[0]].causal else Seq2SeqPolicy)
    for lengths in ((3, 1, 4, 2), (1, 1, 1, 1), (2, 2, 2, 2), (3, 7, 5, 1)):
        batch = text_batch(policy, lengths=lengths, seed=sum(lengths))
        inputs = batch.inputs(policy.vocabulary.bos)
        expected = torch.cat(
            [
                plain_scores(policy, one.source, one.inputs(policy.vocabulary.bos))
                for one in (single(batch, row) for row in range(len(batch.ids)))
            ]
        )
        forced = policy.force(batch.source, inputs).logits(batch.mask)
        steps = stepped(policy, batch.source, inputs)[batch.mask]
        weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(7)).double()
        gradient = gradients(policy, (weights * expected).sum())
        most = max(float(g.abs().max()) for g in gradient.values())
        for found in (forced, steps):
            close(found, expected, tolerance)
            close(gradients(policy, (weights * found).sum()), gradient, tolerance * most)


class Wanderer:
    """A state, and beside it the prefixes that its rows have read."""

    def __init__(self, policy, source, seed):
        self.policy, self.source = policy, source
        self.generator = torch.Generator().manual_seed(seed)
        count = len(source.lengths)
        self.state, self.rows = policy.start(source), list(range(count))
        self.read = [[] for _ in range(count)]
        self.scores = None

    def drawn(self, below, count):
        return torch.randint(below, (count,), generator=self.generator)

    def step(self):
        tokens = self.drawn(self.policy.vocabulary.actions, len(self.rows))
        self.scores, self.state = self.policy.step(self.state, tokens)
        for prefix, token in zip(self.read, tokens.tolist(), strict=True):
            prefix.append(token)

    def select(self, count):
        chosen = self.drawn(len(self.rows), count)
        self.state, self.scores = self.state.select(chosen), self.scores[chosen]
        self.rows = [self.rows[i] for i in chosen]
        self.read = [list(self.read[i]) for i in chosen]

    def fork(self, count):
        """Read again what was read in one pass, and go on from anywhere in it."""
        longest = max(len(prefix) for prefix in self.read)
        inputs = torch.tensor([prefix + [0] * (longest - len(prefix)) for prefix in self.read])
        trace = self.policy.force(self.source.select(torch.tensor(self.rows)), inputs)
        chosen = self.drawn(len(self.rows), count)
        cells = torch.tensor([int(self.drawn(len(self.read[i]), 1)) for i in chosen])
        self.state = trace.fork(chosen, cells)
        pairs = list(zip(chosen.tolist(), cells.tolist(), strict=True))
        self.rows = [self.rows[i] for i, _ in pairs]
        self.read = [self.read[i][: cell + 1] for i, cell in pairs]

    def check(self, tolerance):
        for i, (row, prefix) in enumerate(zip(self.rows, self.read, strict=True)):
            inputs = torch.tensor([prefix])
            source = self.source.select(torch.tensor([row]))
            expected = plain_scores(self.policy, source, inputs)[-1]
            close(self.scores[i], expected, tolerance)


def test_rows_that_go_their_own_ways(kind):
    """Steps, picks and forks in any order, rows of different lengths: all as if read anew."""
    policy = policy_of(kind)
    source = text_source(policy)
    with torch.set_grad_enabled(kind[1] == "eager"):
        walk = Wanderer(policy, source, seed=0)
        for turn, count in enumerate((5, 3, 6, 4)):
            walk.step()
            walk.step()
            (walk.select, walk.fork)[turn % 2](count)
        walk.step()
        walk.check(ARCHITECTURES[kind[0]].tolerance)


@torch.no_grad()
def test_long_rows_see_as_far_as_the_model(kind):
    """Past a sliding window, and to the end of the positions; by steps and by a writer."""
    policy = policy_of(kind, limit=12)
    source = text_source(policy, (4, 1, 3))
    tokens = torch.randint(
        policy.vocabulary.actions, (3, 12), generator=torch.Generator().manual_seed(3)
    )
    expected = torch.stack(
        [
            plain_scores(policy, source.select(torch.tensor([row])), tokens[row : row + 1])
            for row in range(3)
        ]
    )
    tolerance = ARCHITECTURES[kind[0]].tolerance
    close(stepped(policy, source, tokens), expected, tolerance)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    forced = policy.force(source, tokens).logits(everywhere)
    close(forced, expected.flatten(0, 1), tolerance)
    writer, seen = policy.writer(), []
    writer.begin(policy.start(source), torch.tensor([2, 0, 1]))
    for cell in range(12):
        writer.write(tokens[[2, 0, 1], cell], lambda scores, rows: seen.append(scores) or rows)
    close(torch.stack(seen, 1), expected[[2, 0, 1]], tolerance)


@torch.no_grad()
def test_writers_drop_rows_as_steps_do(kind):
    """Rows that leave early and late, in any order; what stays writes what it would alone."""
    policy = policy_of(kind, limit=12)
    source = text_source(policy, (4, 1, 3, 2, 5, 1, 1, 2))
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(8, generator=generator)
    writer, state = policy.writer(), policy.start(source).select(rows)
    writer.begin(policy.start(source), rows)
    tokens = torch.full_like(rows, policy.vocabulary.bos)
    for _ in range(9):
        scores, state = policy.step(state, tokens)
        tokens = writer.write(tokens)
        assert torch.equal(tokens, scores.argmax(1))
        stay = torch.randperm(len(rows), generator=generator)
        stay = stay[: max(1, len(rows) - int(torch.randint(3, (), generator=generator)))]
        writer.keep(stay)
        rows, tokens, state = rows[stay], tokens[stay], state.select(stay)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
def test_pad_may_equal_eos(name):
    """Nothing is told by comparing tokens with pad: eos may be fed and written, in any place."""
    policies = [tiny_adapted(name, pad=pad, limit=9) for pad in (0, 1)]
    source = text_source(policies[0])
    source = Source(torch.where(source.mask, source.values, 1), source.mask)
    source.values[:, 0] = torch.tensor([1, 4, 1, 1])  # and be read from a source
    inputs = torch.tensor([[2, 1, 5, 1]]).expand(4, -1)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    for policy in policies:
        found = policy.force(source, inputs).logits(everywhere).unflatten(0, (4, 4))
        close(stepped(policy, source, inputs), found, ARCHITECTURES[name].tolerance)
        for row in range(4):
            alone = source.select(torch.tensor([row]))
            expected = plain_scores(policy, alone, inputs[:1])
            close(found[row], expected, ARCHITECTURES[name].tolerance)
