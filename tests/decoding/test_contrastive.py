"""Contrastive search: as a plain loop over the model's own forward passes."""

import pytest
import torch
from torch.nn import functional as F

from freerun.decoding import contrastive_search, greedy
from freerun.decoding.loop import CHECK_EVERY
from freerun.models import RecurrentPolicy
from tests.helpers import chain, close, tiny_policy, tiny_source, written
from tests.models.erasing import erasing_policy
from tests.models.models import text_source, tiny_adapted

LENGTHS = (3, 1, 5, 2)
LIMIT = 6
KINDS = {"gpt2": True, "llama": False, "t5": True, "bart": False}
RECURRENT = {
    "gru": {"attention": "general", "eos": True},
    "lstm": {"cell": "lstm", "layers": 2, "attention": "additive", "input_feeding": True},
}


@pytest.fixture(params=[*KINDS, *RECURRENT])
def policy(request):
    if request.param in RECURRENT:
        return tiny_policy(4, limit=LIMIT, seed=3, **RECURRENT[request.param])
    shared = KINDS[request.param]
    return tiny_adapted(request.param, shared=shared, letters="abcd", limit=LIMIT)


@pytest.fixture
def source(policy):
    if isinstance(policy, RecurrentPolicy):
        return tiny_source(policy, LENGTHS)
    return text_source(policy, LENGTHS, seed=1)


def forward(policy, source, text):
    """Last hidden states of all that one row reads, and the scores of what comes next."""
    words = policy.vocabulary
    if isinstance(policy, RecurrentPolicy):
        read = torch.tensor([[words.bos, *text]])
        trace = policy.force(source, read)
        return trace.outputs[0], trace.logits(torch.ones_like(read, dtype=torch.bool))[-1]
    model = policy.model
    values = source.values[:, : int(source.lengths[0])]
    values = values if policy.shared else values + words.size
    if model.config.is_encoder_decoder:
        read = torch.tensor([[words.bos, *text]])
        found = model(input_ids=values, decoder_input_ids=read, output_hidden_states=True)
        hidden = found.decoder_hidden_states[-1][0]
    else:
        start = [] if policy.shared else [words.bos]
        read = torch.cat([values, torch.tensor([[*start, *text]]).long()], 1)
        found = model(input_ids=read, output_hidden_states=True)
        hidden = found.hidden_states[-1][0]
    return hidden, found.logits[0, -1, : words.actions]


def plain(policy, source, top_k, penalty):
    """Tokens of one row, and their log-probability."""
    tokens, total = [], 0.0
    while len(tokens) < LIMIT and policy.vocabulary.eos not in tokens:
        hidden, scores = forward(policy, source, tokens)
        probabilities = scores.softmax(-1)
        worth = {}
        for token in probabilities.topk(top_k).indices.tolist():
            after, _ = forward(policy, source, [*tokens, token])
            alike = F.cosine_similarity(after[-1:], hidden).max()
            worth[token] = float((1 - penalty) * probabilities[token] - penalty * alike)
        tokens.append(max(worth, key=worth.get))
        total += float(probabilities[tokens[-1]].log())
    return tokens, total


@pytest.mark.sample(6)
@pytest.mark.parametrize(("top_k", "penalty", "look"), [(3, 0.6, 1), (4, 1.0, 4)])
@torch.no_grad()
def test_it_is_the_plain_loop(policy, source, top_k, penalty, look, monkeypatch):
    monkeypatch.setitem(CHECK_EVERY, "cpu", look)
    decoded = contrastive_search(policy, source, top_k=top_k, penalty=penalty)
    rows = [
        plain(policy, source.select(torch.tensor([row])), top_k, penalty)
        for row in range(len(LENGTHS))
    ]
    assert written(decoded) == [tokens for tokens, _ in rows]
    close(decoded.log_probs, torch.tensor([total for _, total in rows]), 1e-3)
    assert decoded.ended.tolist() == [t[-1] == policy.vocabulary.eos for t, _ in rows]
    if penalty == 1:
        assert written(decoded) != written(greedy(policy, source))


@pytest.mark.parametrize("settings", [{"top_k": 1, "penalty": 0.7}, {"top_k": 5, "penalty": 0.0}])
def test_without_choice_or_penalty_it_is_greedy(policy, source, settings):
    found, expected = contrastive_search(policy, source, **settings), greedy(policy, source)
    assert written(found) == written(expected)
    close(found.log_probs, expected.log_probs, 1e-5)


def test_limits_are_those_of_each_row(policy, source):
    limits = torch.tensor([1, 2, 6, 4])
    free, bound = (
        written(contrastive_search(policy, source, top_k=3, penalty=0.6, **settings))
        for settings in ({}, {"limit": limits})
    )
    assert bound == [row[:most] for row, most in zip(free, limits.tolist(), strict=True)]


@torch.no_grad()
def test_the_last_position_of_a_model_is_written_at():
    """What would be read beyond it cannot be compared: the likeliest is taken."""
    policy = tiny_adapted("gpt2", n_positions=9, limit=20)
    source = text_source(policy, (4, 2), seed=3)
    limits = policy.limit(source)
    assert limits.tolist() == [6, 8]
    decoded = contrastive_search(policy, source, top_k=3, penalty=0.6)
    assert decoded.log_probs.isfinite().all()
    for row, tokens in enumerate(written(decoded)):
        if len(tokens) == int(limits[row]):
            alone = source.select(torch.tensor([row]))
            alone = type(alone)(
                alone.values[:, : alone.lengths[0]], alone.mask[:, : alone.lengths[0]]
            )
            assert tokens[-1] == int(forward(policy, alone, tokens[:-1])[1].argmax())


def test_what_cannot_be_done_is_refused():
    policy = tiny_adapted("gpt2")
    source = text_source(policy)
    with pytest.raises(ValueError, match=r"^top_k is 0; it must be at least 1$"):
        contrastive_search(policy, source, top_k=0, penalty=0.5)
    with pytest.raises(ValueError, match=r"^penalty is 1.5; it must lie in \[0, 1\]$"):
        contrastive_search(policy, source, top_k=2, penalty=1.5)
    steps = chain()
    with pytest.raises(ValueError, match=r"^ChainTrace has no hidden states; override hidden$"):
        contrastive_search(steps, steps.source(0), top_k=2, penalty=0.5)
    message = (
        r"^contrastive search cannot withdraw tokens, and this vocabulary has a backspace: decode "
        r"greedily or sample$"
    )
    erasing = erasing_policy("gpt2")
    with pytest.raises(ValueError, match=message):
        contrastive_search(erasing, text_source(erasing), top_k=2, penalty=0.5)
