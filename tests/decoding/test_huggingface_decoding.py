"""Hugging Face models that decode: as plain loops of recomputation, and as `generate` does."""

import pytest
import torch

from freerun.decoding import greedy
from freerun.decoding.loop import CHECK_EVERY
from tests.helpers import written
from tests.models.models import (
    ARCHITECTURES,
    plain_scores,
    text_source,
    tiny_adapted,
)

KINDS = [
    (name, attention, attention == "sdpa")
    for name, attention in [
        ("llama", "sdpa"),
        ("gpt2", "eager"),
        ("mistral", "eager"),
        ("gemma3", "sdpa"),
        ("t5", "sdpa"),
        ("bart", "eager"),
    ]
]
LIMIT = 9


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0])
def policy(request):
    name, attention, shared = request.param
    return tiny_adapted(name, attention=attention, shared=shared, letters="abcd", limit=LIMIT)


@pytest.fixture
def source(policy):
    """Some of its rows end by eos, and some at the limit."""
    return text_source(policy, (3, 1, 4, 2, 5, 6, 2, 3), seed=1)


@pytest.fixture(params=[1, 4], ids=["always", "every-fourth-cell"])
def look(request, monkeypatch):
    """How often it is seen which rows have ended, as on machines where looking is slow."""
    monkeypatch.setitem(CHECK_EVERY, "cpu", request.param)


def plain(policy, source, choose):
    """Tokens of each row alone, each from the model's own pass over all that was written before."""
    rows = []
    for row in range(len(source.lengths)):
        alone, tokens = source.select(torch.tensor([row])), []
        while len(tokens) < LIMIT and policy.vocabulary.eos not in tokens:
            read = torch.tensor([[policy.vocabulary.bos, *tokens]])
            scores = plain_scores(policy, alone, read)[-1]
            tokens.append(int(choose(scores, row, len(tokens))))
        rows.append(tokens)
    return rows


@pytest.mark.sample(6)
@pytest.mark.usefixtures("look")
@torch.no_grad()
def test_greedy_is_the_plain_loop(policy, source):
    decoded = greedy(policy, source)
    assert written(decoded) == plain(policy, source, lambda scores, row, cell: scores.argmax())
    eos = policy.vocabulary.eos
    assert decoded.ended.tolist() == [row[-1] == eos for row in written(decoded)]


@torch.no_grad()
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_is_what_generate_gives(name):
    """Of left-padded prompts, as transformers would have them."""
    attention = "eager" if name == "gemma2" else "sdpa"
    policy = tiny_adapted(name, rows=13, limit=LIMIT, attention=attention, dtype=torch.float32)
    source = text_source(policy, (3, 1, 4, 2, 5, 6, 2, 3), seed=2)
    values, mask = source.values, source.mask
    if ARCHITECTURES[name].causal:
        width = mask.shape[1]
        order = (torch.arange(width) - (width - source.lengths)[:, None]) % width
        values, mask = values.gather(1, order), mask.gather(1, order)
    found = policy.model.generate(
        values * mask,
        attention_mask=mask.long(),
        max_new_tokens=LIMIT,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=1,
    )
    found = found[:, values.shape[1] if ARCHITECTURES[name].causal else 1 :].tolist()
    rows = written(greedy(policy, source))
    ends = [row.index(1) + 1 if 1 in row else LIMIT for row in found]
    assert rows == [row[:end] for row, end in zip(found, ends, strict=True)]
