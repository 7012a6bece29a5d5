"""Tabular policies that write and withdraw: all their sequences, and what their occupancies say.

The objective here knows nothing of trees, telescoping sums or closed forms: states are strings,
distributions of states are carried from action to action, and what is absorbed is a long sum.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from freerun.backspaces import build_tree
from freerun.losses import ScoredActions

EOS, BACKSPACE = "$", "<"


def after(state, action):
    """The state after an action: a string, where the prompt is the empty one."""
    return state[:-1] if action == BACKSPACE else state + action


def texts(letters, most):
    """All strings of up to `most` letters."""
    return ["".join(w) for n in range(most + 1) for w in itertools.product(letters, repeat=n)]


@dataclass
class Table:
    """Scores ℓ(a|s) for every state that `limit` actions can reach, those after eos too.

    Args:
        letters: what may be written.
        limit: the most actions of a sequence, which is cut short there.
        scores: a row for each state.
    """

    letters: str
    limit: int
    scores: Tensor

    @classmethod
    def random(cls, letters, limit, *, seed):
        table = cls(letters, limit, torch.zeros(()))
        generator = torch.Generator().manual_seed(seed)
        shape = len(table.states), len(table.actions)
        table.scores = torch.randn(shape, generator=generator, dtype=torch.float64)
        return table

    @property
    def actions(self):
        return self.letters + EOS + BACKSPACE

    @cached_property
    def states(self):
        """The number of every state."""
        ended = [text + EOS for text in texts(self.letters, self.limit - 1)]
        return {s: i for i, s in enumerate(texts(self.letters, self.limit) + ended)}

    @cached_property
    def ended(self):
        return torch.tensor([state.endswith(EOS) for state in self.states])

    @cached_property
    def following(self):
        """The state after every action in every state; 0 where there is no action left to take."""
        rows = [[self.states.get(after(s, a), 0) for a in self.actions] for s in self.states]
        return torch.tensor(rows)

    def sequences(self):
        """All complete sequences: the numbers of their actions, and their states, one more."""
        found, growing = [], [([], [""])]
        for _ in range(self.limit):
            grown = []
            for taken, states in growing:
                for number, action in enumerate(self.actions):
                    longer = [*taken, number], [*states, after(states[-1], action)]
                    (found if action == EOS else grown).append(longer)
            growing = grown
        return found + growing

    def probability(self, sequence):
        """The product of the probabilities of its actions."""
        rows = [self.states[state] for state in sequence[1][:-1]]
        return self.scores.softmax(-1)[rows, sequence[0]].prod()

    def occupancies(self):
        """For every moment, the probability of state and action, and that of having just ended."""
        here = torch.zeros(len(self.states), dtype=torch.float64)
        here[self.states[""]] = 1
        for _ in range(self.limit):
            taken = (here * ~self.ended)[:, None] * self.scores.softmax(-1)
            flow = torch.zeros_like(here)
            here = flow.index_add(0, self.following.flatten(), taken.flatten())
            yield taken, here * self.ended

    def score_actions(self, sequences):
        """The scored actions of sequences, as a network that reads their trees would give them."""
        back = len(self.actions) - 1
        width = max(len(taken) for taken, _ in sequences)
        actions = torch.full((len(sequences), width), back)
        for row, (taken, _) in enumerate(sequences):
            actions[row, : len(taken)] = torch.tensor(taken)
        lengths = torch.tensor([len(taken) for taken, _ in sequences])
        mask = torch.arange(width) < lengths[:, None]
        tree = build_tree(actions, mask, bos=-1, pad=-1, backspace=back)
        rows = []
        for tokens, parents, there in zip(tree.tokens, tree.parents, tree.mask, strict=True):
            prefixes = []
            for token, parent in zip(tokens[there].tolist(), parents[there], strict=True):
                prefixes.append("" if parent < 0 else prefixes[parent] + self.actions[token])
            rows += [self.states[prefix] for prefix in prefixes]
        ended = torch.tensor([states[-1].endswith(EOS) for _, states in sequences])
        return ScoredActions.from_scores(
            self.scores[rows], tree.mask, tree.tops, actions, mask, ended
        )


def objective(scored, data, model, phi, *, alpha, gamma, mixture, moments=1000):
    """J by occupancies: E_data[(1/α)·φ(α·r)] - ½·E_data[V - γ·V'] - ½·E_model[V - γ·V'].

    Each is a discounted sum over all moments, those after eos too.

    Args:
        scored: the table whose scores are judged.
        data: the table that data are drawn from.
        model: the table that model sequences are drawn from.
        phi: φ, of a tensor.
        alpha: α > 0.
        gamma: γ < 1.
        mixture: whether the penalty of the mixture is added.
        moments: how long what is absorbed is summed.
    """
    values = scored.scores.logsumexp(-1)
    next_values = gamma * values[scored.following]
    rewards, steps = scored.scores - next_values, values[:, None] - next_values
    stays = values - gamma * values
    penalty = alpha / 4 * mixture
    total = torch.zeros((), dtype=torch.float64)
    for source in (data, model):
        for time, (taken, ending) in enumerate(source.occupancies()):
            later = ending * sum(gamma**t for t in range(time + 1, time + 1 + moments))
            for weight, reward, step in (
                (gamma**time * taken, rewards, steps),
                (later, stays, stays),
            ):
                total = total - (weight * (step / 2 + penalty * reward**2)).sum()
                if source is data:
                    # Where nothing comes to, φ may be anything.
                    reward = reward.where(weight > 0, 0)
                    total = total + (weight * phi(alpha * reward)).sum() / alpha
    return total
