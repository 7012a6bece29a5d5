"""Tiny policies and batches in double precision, and how to compare what comes of them."""

import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module

import pytest
import torch
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.decoding import truncated_log_probs
from freerun.methods import SEARNN
from freerun.models import RecurrentConfig, RecurrentPolicy
from freerun.policy import Policy, State, Trace
from freerun.roll_in import roll_in
from freerun.settings import build
from freerun.vocabulary import Vocabulary

SOURCES = {"tokens": {"factors": (5,)}, "factors": {"factors": (5, 3, 4)}, "real": {"features": 3}}


@contextmanager
def keeping_checkpoints():
    """Let runs end as if they were killed between saving the model and deleting checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            import_module("freerun.training.fit"), "delete_checkpoints", lambda folder: None
        )
        yield


def vocabulary(actions=3, *, eos=True):
    """Letters, of which the last is eos where wanted."""
    return Vocabulary.build("abcdefgh"[: actions - eos], eos=eos)


def tiny_policy(
    actions=3, *, eos=True, source="tokens", limit=4, seed=0, scale=1.0, words=None, **settings
):
    """A recurrent policy with large random weights, so that its choices differ; in evaluation mode.

    `words` is the vocabulary to write, where it is not that of `vocabulary`.
    """
    sizes = {"hidden_size": 4, "embedding_size": 3}
    config = RecurrentConfig.from_vocabulary(
        words or vocabulary(actions, eos=eos),
        **SOURCES[source],
        limit=limit if eos else None,
        **{**sizes, **settings},
    )
    policy = RecurrentPolicy(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(0, scale, generator=generator)
    return policy


def tiny_source(policy, lengths=(3, 1, 4, 2), seed=0):
    """Sources of `lengths`; their padding holds values that would matter if they were read."""
    generator = torch.Generator().manual_seed(seed)
    rows, width = len(lengths), max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    config = policy.config
    if config.features:
        values = torch.randn(rows, width, config.features, generator=generator).double()
    else:
        factors = torch.tensor(config.factors)
        values = torch.randint(60, (rows, width, len(factors)), generator=generator) % factors
        values = values[..., 0] if len(factors) == 1 else values
    return Source(values, mask)


def tiny_batch(policy, lengths=(3, 1, 4, 2), targets=None, seed=0):
    """Examples with targets as long as their sources, or of lengths `targets`; those end in eos."""
    source = tiny_source(policy, lengths, seed)
    words = policy.vocabulary
    counts = torch.tensor(lengths if targets is None or words.eos is None else targets)
    rows, width = len(counts), int(counts.max())
    generator = torch.Generator().manual_seed(seed + 1)
    letters = words.actions - (words.eos is not None)
    target = torch.randint(letters, (rows, width), generator=generator)
    cells = torch.arange(width)
    if words.eos is not None:
        target[cells == counts[:, None] - 1] = words.eos
    mask = cells < counts[:, None]
    ids = torch.randperm(1000, generator=generator)[:rows]
    return Batch(ids, source, target.where(mask, words.pad), mask)


def single(batch, row):
    """One example of a batch, alone and without padding."""
    one = batch.select(torch.tensor([row]))
    source = Source(
        one.source.values[:, : one.source.lengths[0]], one.source.mask[:, : one.source.lengths[0]]
    )
    cells = one.lengths[0]
    return Batch(one.ids, source, one.target[:, :cells], one.mask[:, :cells])


def padded(batch, pad, *, source=2, target=3):
    """The batch with more padding: tokens `pad`, and source values that would matter if read."""
    rows = len(batch.ids)
    values = batch.source.values
    more = values.flatten()[: rows * source].flip(0) if values.dim() == 2 else values[:, :source]
    more = more.reshape(rows, source, *values.shape[2:])
    unread = torch.zeros(rows, source, dtype=torch.bool)
    wide = Source(torch.cat([values, more], 1), torch.cat([batch.source.mask, unread], 1))
    return Batch(
        batch.ids,
        wide,
        torch.cat([batch.target, torch.full((rows, target), pad)], 1),
        torch.cat([batch.mask, torch.zeros(rows, target, dtype=torch.bool)], 1),
    )


def poisoned(batch, row=1):
    """The batch with a source of one row that is not a number."""
    values = batch.source.values.clone()
    values[row] = float("nan")
    return replace(batch, source=Source(values, batch.source.mask))


def sequences(actions, length, eos=None):
    """All sequences of `actions` tokens up to `length`: those that end in eos, and full ones."""
    for tokens in itertools.product(range(actions), repeat=length):
        if eos not in tokens:
            yield tokens
    if eos is not None:
        letters = [token for token in range(actions) if token != eos]
        for shorter in range(length):
            yield from ((*t, eos) for t in itertools.product(letters, repeat=shorter))


def log_prob(policy, source, tokens, **truncation):
    """log p(tokens | source) of one sentence, by forcing the whole sequence."""
    tokens = torch.tensor([tokens])
    inputs = torch.cat([torch.tensor([[policy.vocabulary.bos]]), tokens[:, :-1]], 1)
    scores = policy.force(source, inputs).logits(torch.ones_like(tokens, dtype=torch.bool))
    log_probs = truncated_log_probs(scores, **truncation)
    return float(log_probs.gather(-1, tokens.T).sum().detach())


def gradients(policy, loss):
    """The gradient of `loss` for every trained parameter by name, zeros where it has none."""
    trained = [pair for pair in policy.named_parameters() if pair[1].requires_grad]
    names, parameters = zip(*trained, strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


def close(actual, expected, tolerance=1e-12):
    """Assert that tensors, or dictionaries of them, differ by `tolerance` at most."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@contextmanager
def raises(kind, message):
    """Assert that an error of this kind is raised, with exactly this message."""
    with pytest.raises(kind) as caught:
        yield
    assert str(caught.value) == message


def chi_square(counts, expected):
    """The p-value of Pearson's test that `counts` come from `expected`, which are all positive."""
    counts, expected = torch.as_tensor(counts).double(), torch.as_tensor(expected).double()
    assert counts.sum().item() == round(expected.sum().item())
    assert expected.min() > 4, "too few draws for this test"
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2.0), statistic / 2))


def agreement(counts, probabilities):
    """The p-value that `counts`, by outcome, come from `probabilities`; rare outcomes are one."""
    draws = sum(counts.values())
    common = [outcome for outcome, p in probabilities.items() if p * draws > 10]
    observed = [counts[outcome] for outcome in common]
    expected = [probabilities[outcome] * draws for outcome in common]
    if draws - sum(expected) > 5:
        observed, expected = (
            [*observed, draws - sum(observed)],
            [*expected, draws - sum(expected)],
        )
    scale = sum(observed) / sum(expected)
    assert scale == pytest.approx(1, abs=1e-2)
    return chi_square(observed, torch.tensor(expected, dtype=torch.float64) * scale)


def written(decoded):
    """The tokens of every row, eos included."""
    rows = zip(decoded.tokens.tolist(), decoded.lengths.tolist(), strict=True)
    return [row[:length] for row, length in rows]


def whole(decoded, row):
    """The tokens of one row, eos included."""
    return tuple(decoded.tokens[row, : decoded.lengths[row]].tolist())


@dataclass(frozen=True)
class Rows(State):
    """The state of `Chain`: the sentence of each row, and a number that tells its prefix."""

    sentence: Tensor
    prefix: Tensor

    def select(self, rows):
        return Rows(self.sentence[rows], self.prefix[rows])


class ChainTrace(Trace):
    """The scores and prefixes of every cell of `Chain`."""

    def __init__(self, sentence, scores, prefixes):
        self.sentence, self.scores, self.prefixes = sentence, scores, prefixes

    def logits(self, cells):
        return self.scores[cells]

    def fork(self, rows, cells):
        return Rows(self.sentence[rows], self.prefixes[rows, cells])


class Chain(Policy):
    """A policy without parameters: scores are looked up by sentence and last token.

    `table[x, a]` are the scores after token a (bos last) of a sentence whose first token is x; with
    `memory` the tokens before matter too. It counts the rows of every step.
    """

    def __init__(self, table, *, eos=True, limit=4, memory=0.0):
        super().__init__()
        self.table, self.most, self.memory = table, limit, memory
        self.vocabulary = vocabulary(table.shape[-1], eos=eos)
        self.steps = []

    def source(self, *sentences):
        values = torch.tensor(sentences)[:, None]
        return Source(values, torch.ones_like(values, dtype=torch.bool))

    def limit(self, source):
        return torch.full_like(source.lengths, self.most)

    def start(self, source):
        return Rows(source.values[:, 0], torch.zeros(len(source.values), dtype=torch.float64))

    def step(self, state, inputs):
        self.steps.append(len(inputs))
        prefix = 1.7 * state.prefix + inputs
        waves = torch.cos(prefix[:, None] * torch.arange(1, self.table.shape[-1] + 1))
        scores = self.table[state.sentence, inputs] + self.memory * waves.to(self.table.dtype)
        return scores, replace(state, prefix=prefix)

    def embed(self, weights):
        raise NotImplementedError("a chain reads tokens only")

    def force(self, source, inputs, parents=None):
        state, found, prefixes = self.start(source), [], []
        for cell in range(inputs.shape[1]):
            scores, state = self.step(state, inputs[:, cell])
            found.append(scores)
            prefixes.append(state.prefix)
        return ChainTrace(state.sentence, torch.stack(found, 1), torch.stack(prefixes, 1))


class Wrapped(Policy):
    """A policy that hands everything on to another; subclasses note what they are asked for."""

    def __init__(self, policy):
        super().__init__()
        self.policy, self.vocabulary = policy, policy.vocabulary

    def limit(self, source):
        return self.policy.limit(source)

    def start(self, source):
        return self.policy.start(source)

    def step(self, state, inputs):
        return self.policy.step(state, inputs)

    def force(self, source, inputs, parents=None):
        return self.policy.force(source, inputs, parents)

    def embed(self, weights):
        return self.policy.embed(weights)


def roll_in_own(policy, batch, choose):
    """The inputs of every cell where the policy reads only its own tokens, bos aside."""
    return roll_in(policy, batch, torch.ones_like(batch.mask), choose)


def chain(actions=3, *, sentences=2, seed=0, scale=2.0, **settings):
    """A random `Chain`."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(sentences, actions + 1, actions, generator=generator, dtype=torch.float64)
    return Chain(table * scale, **settings)


class Log(list):
    """A list that copies share: what the copy of a method in a run writes down, a test can read."""

    def __deepcopy__(self, memo):
        return self


def searnn(**settings):
    """SEARNN from settings by name, as on the command line."""
    return build(SEARNN, settings, "searnn")


def edit_record(path, **changes):
    """Change a freerun.json, and leave out its digest: its new text."""
    record = json.loads(path.read_text())
    del record["sha256"]
    path.write_text(json.dumps({**record, **changes}))
    return path.read_text()
