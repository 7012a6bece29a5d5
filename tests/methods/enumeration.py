"""All outputs of one example of a tiny policy: probabilities, costs, and expected costs."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from freerun.costs import edit_distance
from freerun.methods.samples import Samples, count_text
from tests.helpers import sequences, single, tiny_batch, tiny_policy


def tiny_example(actions=3, length=3, **settings):
    """A policy whose outputs have at most so many tokens, and one example of two tokens."""
    policy = tiny_policy(actions, limit=length, scale=0.8, **settings)
    eos = policy.vocabulary.eos is not None
    lengths = (2, 3) if eos else (length, length)
    return policy, single(tiny_batch(policy, lengths=lengths, targets=(2, 3)), 0)


def all_outputs(policy, one, length=3):
    """Every output of an example, as samples of a batch that is this example alone."""
    words = policy.vocabulary
    if words.eos is None:
        found = list(itertools.product(range(words.actions), repeat=length))
    else:
        found = list(sequences(words.actions, length, words.eos))
    lengths = torch.tensor([len(tokens) for tokens in found])
    mask = torch.arange(length) < lengths[:, None]
    tokens = torch.full(mask.shape, words.pad)
    for row, each in enumerate(found):
        tokens[row, : len(each)] = torch.tensor(each)
    return Samples(torch.zeros(len(found), dtype=torch.long), tokens, mask)


def tokens_of(samples):
    """The tokens of each output, without padding."""
    rows = zip(samples.tokens, samples.mask, strict=True)
    return [tuple(tokens[mask].tolist()) for tokens, mask in rows]


def costs_of(outputs, policy, one):
    """The edit distance of each, computed one by one."""
    eos = policy.vocabulary.eos
    target, due = one.target, count_text(one.target, one.lengths, eos)
    lengths = count_text(outputs.tokens, outputs.mask.sum(1), eos)
    rows = zip(outputs.tokens, lengths, strict=True)
    return torch.cat([edit_distance(row[None], n[None], target, due) for row, n in rows])


def log_probs_of(outputs, policy, one):
    """log p of each output, with gradient, each forced alone."""
    found = []
    for tokens, mask in zip(outputs.tokens, outputs.mask, strict=True):
        row = tokens[mask][None]
        inputs = torch.cat([torch.tensor([[policy.vocabulary.bos]]), row[:, :-1]], 1)
        scores = policy.force(one.source, inputs).logits(torch.ones_like(row, dtype=torch.bool))
        found.append(scores.log_softmax(-1).gather(1, row.T).sum())
    return torch.stack(found)


def expected_cost(policy, one, length=3):
    """Σ_y p(y)·Δ(y) over all outputs."""
    outputs = all_outputs(policy, one, length)
    probabilities = log_probs_of(outputs, policy, one).exp()
    assert probabilities.sum().item() == pytest.approx(1)
    return (probabilities * costs_of(outputs, policy, one)).sum()


def finite_difference(policy, value, direction, step=1e-5):
    """The derivative of `value(policy)` along a direction, a dictionary of parameters."""
    parameters = {name: parameter.detach() for name, parameter in policy.named_parameters()}

    class Valued(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.policy = policy

        def forward(self):
            return value(self.policy)

    moved = [
        {f"policy.{n}": p + sign * step * direction[n] for n, p in parameters.items()}
        for sign in (1, -1)
    ]
    with torch.no_grad():
        up, down = (functional_call(Valued(), each, ()) for each in moved)
    return float((up - down) / (2 * step))


def many(one, count):
    """Copies of one example with different ids."""
    copies = one.select(torch.zeros(count, dtype=torch.long))
    return replace(copies, ids=torch.arange(count))
