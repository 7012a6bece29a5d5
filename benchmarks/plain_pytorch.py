"""The baseline for timing: the same models in plain PyTorch."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from freerun.batch import Batch
from freerun.models import RecurrentPolicy


class Bare(nn.Module):
    """A GRU encoder-decoder with aligned or general attention over padded rows."""

    def __init__(self, policy: RecurrentPolicy) -> None:
        super().__init__()
        config, size = policy.config, policy.config.hidden_size
        self.attention = config.attention
        self.bos, self.actions = policy.vocabulary.bos, policy.vocabulary.actions
        tokens = config.features is None
        self.source = nn.Embedding(sum(config.factors), config.embedding_size) if tokens else None
        first = config.embedding_size if tokens else cast(int, config.features)
        both = config.bidirectional
        self.encoder = nn.GRU(first, size, batch_first=True, bidirectional=both)
        width = size * (2 if both else 1)
        self.bridge = nn.Linear(width, size) if both else None
        self.target = nn.Embedding(policy.vocabulary.size, config.embedding_size)
        self.decoder = nn.GRU(config.embedding_size, size, batch_first=True)
        self.cell = nn.GRUCell(config.embedding_size, size)
        self.key = nn.Linear(width, size, bias=False)
        self.combine = nn.Linear(width + size, size, bias=False)
        self.output = nn.Linear(size, self.actions)

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return encoder outputs, attention keys, and the initial decoder state."""
        values = batch.source.values
        outputs, last = self.encoder(values if self.source is None else self.source(values))
        if self.bridge is not None:
            return outputs, self.key(outputs), torch.tanh(self.bridge(torch.cat([*last], -1)))
        return outputs, self.key(outputs), last[0]

    def attend(
        self, states: Tensor, outputs: Tensor, keys: Tensor, mask: Tensor, cell: slice
    ) -> Tensor:
        """Return the attentional outputs for decoder states."""
        if self.attention == "aligned":
            context = outputs[:, cell]
        else:
            scores = states @ keys.transpose(1, 2)
            weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
            context = weights @ outputs
        return torch.tanh(self.combine(torch.cat([context, states], -1)))

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy under teacher forcing."""
        outputs, keys, first = self.encode(batch)
        states, _ = self.decoder(self.target(batch.inputs(self.bos)), first[None])
        states = self.attend(states, outputs, keys, batch.source.mask, slice(None))
        scores = self.output(states)
        labels = batch.target.masked_fill(~batch.mask, -100)
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten())

    @torch.no_grad()
    def greedy(self, batch: Batch, steps: int) -> Tensor:
        """Decode greedily, one GRUCell per step, for the maximum number of steps."""
        outputs, keys, state = self.encode(batch)
        tokens = torch.full((len(batch.ids),), self.bos, device=outputs.device)
        written = []
        for step in range(steps):
            state = self.cell(self.target(tokens), state)
            here = slice(step, step + 1)
            output = self.attend(state[:, None], outputs, keys, batch.source.mask, here)
            tokens = self.output(output[:, 0]).argmax(-1)
            written.append(tokens)
        return torch.stack(written, 1)
