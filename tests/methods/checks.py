"""What tests of several methods share."""

import torch
from torch import nn
from torch.func import functional_call

from freerun.methods import Clock
from tests.helpers import tiny_batch, tiny_policy
from tests.twins import scores_after


class Loss(nn.Module):
    """The loss of a batch as a function of a policy's parameters."""

    def __init__(self, policy, method, batch, clock):
        super().__init__()
        self.policy, self.arguments = policy, (method, batch, clock)

    def forward(self):
        method, batch, clock = self.arguments
        return method.loss(self.policy, batch, clock).total


def gradcheck_loss(method, *, fast=True, **settings):
    """Compare the gradient of a loss by every parameter with finite differences.

    `fast` looks along one direction in the space of each parameter, not along all of its axes.
    """
    policy = tiny_policy(3, hidden_size=2, embedding_size=2, scale=0.8, **settings)
    batch = tiny_batch(policy, lengths=(3, 2), targets=(2, 4))
    loss = Loss(policy, method, batch, Clock(3, total=9))
    names, parameters = zip(*loss.named_parameters(), strict=True)

    def total(*values):
        return functional_call(loss, dict(zip(names, values, strict=True)), ())

    # Of parameters that the decoder never reads, such as the embedding of pad, it is zero.
    assert torch.autograd.gradcheck(total, parameters, fast_mode=fast)


def expected_loss(policy, one, share, choices, inputs=None):
    """The mean loss of scheduled sampling on one example over all coins and own tokens.

    `choices(scores)` gives the probability of every own token; `share` is ε.
    """
    inputs = [policy.vocabulary.bos] if inputs is None else inputs
    target = one.target[0].tolist()
    cell = len(inputs) - 1
    scores = scores_after(policy, one.source, torch.tensor([inputs])).detach()
    loss = -float(scores.log_softmax(-1)[target[cell]])
    if cell + 1 == len(target):
        return loss
    fed = (1 - share) * choices(scores)
    fed[target[cell]] += share
    for token, probability in enumerate(fed.tolist()):
        if probability > 0:
            rest = expected_loss(policy, one, share, choices, [*inputs, token])
            loss += probability * rest
    return loss


def mean_loss(method, policy, one, draws, clock):
    """The mean loss over as many namesakes of one example, and its standard error."""
    batch = one.select(torch.zeros(draws, dtype=torch.long))
    batch = type(batch)(torch.arange(draws), batch.source, batch.target, batch.mask)
    with torch.no_grad():
        parts = [batch.select(rows) for rows in torch.arange(draws).split(100)]
        losses = torch.stack([method.loss(policy, part, clock).total / 100 for part in parts])
    return float(losses.mean()), float(losses.std() / len(losses) ** 0.5)
