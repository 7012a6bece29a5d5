"""SEARNN's search once more: one sentence, one cell, one token, one roll-out at a time.

Plain Python on lists. The policy starts anew for every sentence and reads one token after the
other; there are no batches, no forks, no results taken from elsewhere.
"""

import math
from types import SimpleNamespace

import torch

from freerun.losses import CELL_LOSSES
from freerun.methods import SEARNN
from freerun.randomness import gumbel, uniform
from freerun.references import DEFAULT_REFERENCES, make_reference
from freerun.settings import list_settings, to_dict
from tests.costs.pairs import columns, masked, plain_gleu, plain_matches, plain_table
from tests.helpers import single


def by_name(method):
    """The settings of a method, None where they have no effect."""
    names = dict.fromkeys(list_settings(SEARNN))
    return SimpleNamespace(**{**names, **to_dict(method), "cost": method.cost})


def twins(method, policy, batch, clock):
    """A twin for each sentence of a batch."""
    return [Twin(method, policy, single(batch, row), clock) for row in range(len(batch.ids))]


def twin_loss(method, policy, batch, clock):
    """The loss of a batch, as the sum over its sentences."""
    return sum(twin.loss() * twin.weight() for twin in twins(method, policy, batch, clock))


class Twin:
    """The search of one sentence.

    Attributes:
        roll_in: what was written, eos included.
        tried: for each cell that is searched, for each token that is tried, the output that it
            leads to and what that costs.
        steps: how often the policy had to write a token: not where a greedy roll-out would only
            repeat the roll-in.
    """

    def __init__(self, method, policy, one, clock):
        self.method, self.policy, self.source = by_name(method), policy, one.source
        self.words, self.id = policy.vocabulary, int(one.ids[0])
        self.seed, self.step, self.done = clock.seed, clock.step, min(1, clock.step / clock.total)
        self.target = one.target[0].tolist()
        self.true = [token for token in self.target if token != self.words.eos]
        self.limit = min(
            int(policy.limit(one.source)), math.ceil(len(self.target) * method.stretch)
        )
        self.limit = max(self.limit, len(self.target))
        self.known = {}
        self.roll_in, self.own = self._roll_in()
        self.most = self._most()
        self.steps = 0
        self.tried = {cell: self._costs(cell) for cell in self._cells()}

    # What is read and written

    def read(self, prefix):
        """The scores after bos and `prefix`, and the state, from which reading may go on."""
        prefix = tuple(prefix)
        if prefix not in self.known:
            last = prefix[-1] if prefix else self.words.bos
            state = self.read(prefix[:-1])[1] if prefix else self.policy.start(self.source)
            scores, state = self.policy.step(state, torch.tensor([last]))
            self.known[prefix] = scores[0], state
        return self.known[prefix]

    def scores(self, prefix):
        return self.read(prefix)[0]

    def greedy(self, prefix):
        scores = self.scores(prefix).tolist()
        return scores.index(max(scores))

    def completion(self, prefix):
        """What the reference policy writes after `prefix`, eos left out."""
        method, names = self.method, (self.words.symbols, self.words.unknown)
        name = method.reference or DEFAULT_REFERENCES[method.cost]
        if name == "copy":
            return self.true[len(prefix) :]
        if name == "max_f1":
            tokens, counts = make_reference(name, *names)(*columns([(prefix, self.true)]))
            return tokens[0, : counts[0]].tolist()
        starts = range(len(self.true) + 1)
        true = masked(self.true, self.words.unknown)
        lost = [round(REFERENCES[name](prefix + self.true[k:], true), 12) for k in starts]
        return self.true[max(k for k in starts if lost[k] == min(lost)) :]

    def taught(self, prefix):
        """The token that the reference policy writes after `prefix`."""
        rest = self.completion(prefix)
        return rest[0] if rest else self.words.eos

    def coin(self, *names):
        return float(uniform(self.seed, *names))

    # The search

    def _roll_in(self):
        """What is written, and whether the policy did it, cell by cell."""
        kind, tokens, own = self.method.roll_in, [], []
        share = self.method.roll_in_share
        if kind == "mixed":
            taught = self.coin("roll_in", self.step, self.id) < share
            kind = "reference" if taught else "learned"
        if kind == "reference":
            return self.target, [False] * len(self.target)
        while len(tokens) < self.limit and self.words.eos not in tokens:
            coin = self.coin("roll_in", self.step, self.id, len(tokens))
            own.append(kind == "learned" or coin >= share)
            tokens.append(self.greedy(tokens) if own[-1] else self.taught(tokens))
        return tokens, own

    def _most(self):
        """How many tokens the policy writes in a roll-out."""
        method = self.method
        if method.roll_out == "focused":
            start = method.focus
            end = start if method.focus_end is None else method.focus_end
            return round(start + self.done * (end - start))
        if method.roll_out == "mixed":
            coin = self.coin("roll_out", self.step, self.id)
            return 0 if coin < method.roll_out_share else math.inf
        return {"reference": 0, "learned": math.inf}[method.roll_out]

    def _cells(self):
        cells, most = list(range(len(self.roll_in))), self.method.cells
        order = sorted(cells, key=lambda cell: self.coin("cells", self.step, self.id, cell))
        return sorted(order[:most])

    def _tokens(self, cell):
        """What is tried at a cell."""
        method, prefix, actions = self.method, self.roll_in[:cell], range(self.words.actions)
        if method.token_choice == "all":
            return list(actions)
        scores, taught = self.scores(prefix).detach(), self.taught(prefix)
        names = ("tokens", self.step, self.id, cell)
        bias = method.bias if method.token_choice == "biased" else 1.0
        if method.token_choice == "uniform":
            value = {a: self.coin(*names, a) for a in actions}
        elif method.token_choice in ("policy", "biased"):
            noise = {a: gumbel(self.seed, *names, a) for a in actions}
            value = {a: float(scores[a].float() * bias + noise[a]) for a in actions}
        else:
            value = {a: float(scores[a]) for a in actions}
        order = sorted(actions, key=lambda a: -value[a])
        if method.token_choice == "neighbors":
            near = method.neighbors
            around = [cell + offset for k in range(1, near + 1) for offset in (k, -k)][: near - 1]
            around = [self.target[c] for c in around if 0 <= c < len(self.target)]
            return list(dict.fromkeys([taught, *around, *order[: method.tokens - near]]))
        order = [taught, *(a for a in order if a != taught)][: method.tokens]
        if method.token_choice == "targeted":
            shares = scores.float().softmax(-1)
            least = shares.max() - method.gap
            order = [a for a in order if a == taught or shares[a] >= least]
        return order

    def _costs(self, cell):
        """For each token, the output that it leads to, and what that costs."""
        found = {}
        for token in self._tokens(cell):
            repeats = token == self.roll_in[cell] and all(self.own[cell + 1 :])
            repeats = repeats and self.most >= self.limit
            steps, output = self.steps, self._roll_out(cell, token)
            self.steps = steps if repeats else self.steps
            found[token] = output, self.cost(output)
        return found

    def _roll_out(self, cell, token):
        """What becomes of the sentence: its tokens, eos left out."""
        tokens, eos = [*self.roll_in[:cell], token], self.words.eos
        if token == eos:
            return tokens[:-1]
        while len(tokens) < self.limit and len(tokens) - cell - 1 < self.most:
            self.steps += 1
            tokens.append(self.greedy(tokens))
            if tokens[-1] == eos:
                return tokens[:-1]
        # Where the policy writes, sentences end at the limit; the reference policy ends by itself.
        taught = len(tokens) < self.limit or self.most == 0
        return tokens + self.completion(tokens) if taught else tokens

    def cost(self, output):
        """What an output costs against the target."""
        if isinstance(self.method.cost, str):
            return COSTS[self.method.cost](output, self.true, self.words)
        return float(self.method.cost(*columns([(output, self.true)])))

    # The loss

    def loss(self):
        """The sum of the losses of its cells."""
        return sum(self.cell_loss(cell) for cell in self.tried)

    def weight(self):
        """What each of its cells counts."""
        return len(self.roll_in) / len(self.tried)

    def cell_loss(self, cell):
        method, tried = self.method, self.tried[cell]
        tokens = sorted(tried)
        scores = self.scores(self.roll_in[:cell])[tokens]
        costs = torch.tensor([tried[a][1] for a in tokens], dtype=torch.float64)
        options = {} if method.alpha is None else {"alpha": method.alpha}
        if method.cell_loss in ("ll", "llcas", "structured_hinge"):
            ties = [self.coin("ties", self.step, self.id, cell, a) for a in tokens]
            options["ties"] = torch.tensor(ties)[None]
        mask = torch.ones(len(tokens), dtype=torch.bool)
        loss = CELL_LOSSES[method.cell_loss]
        return loss(scores[None], costs[None], mask[None], **options)[0]


def plain_hamming(output, true, words):
    assert len(output) == len(true)
    true = masked(true, words.unknown)
    return sum(own != other for own, other in zip(output, true, strict=True))


def plain_chunks(tokens, words):
    """Chunks of IOB2 tags as (kind, first, last); what continues nothing begins one."""
    found, kind = [], None
    for position, token in enumerate(tokens):
        tag = "O" if token == words.unknown else words.symbols[token]
        before, kind = kind, tag[2:] if tag[:2] in ("B-", "I-") else None
        if kind is not None and (tag[0] == "B" or kind != before):
            found.append([kind, position, position])
        elif kind is not None:
            found[-1][2] = position
    return {tuple(chunk) for chunk in found}


def plain_chunk_f1(output, true, words):
    own, others = plain_chunks(output, words), plain_chunks(true, words)
    return 1 - 2 * len(own & others) / (len(own) + len(others)) if own or others else 0.0


def plain_bleu(output, true, orders=4):
    """As `tests.costs.pairs.plain_bleu`, with one root of one fraction: equal scores tie."""
    if not output and not true:
        return 1.0
    matches = [plain_matches(output, true, n) for n in range(1, orders + 1)]
    if matches[0] == 0:
        return 0.0
    counts = [max(0, len(output) - n + 1) for n in range(1, orders + 1)]
    fraction = math.prod(m + 1 for m in matches) / math.prod(c + 1 for c in counts)
    score = math.sqrt(math.sqrt(fraction)) if orders == 4 else fraction
    return math.exp(min(0.0, 1 - len(true) / len(output))) * score


def plain_distance(output, true):
    return plain_table(output, true)[-1][-1]


COSTS = {
    "hamming_total": lambda own, true, words: float(plain_hamming(own, true, words)),
    "hamming": lambda own, true, words: plain_hamming(own, true, words) / len(true),
    "edit_distance": lambda own, true, words: (
        plain_distance(own, masked(true, words.unknown)) / max(1, len(true))
    ),
    "bleu": lambda own, true, words: 1 - plain_bleu(own, masked(true, words.unknown)),
    "bleu_1": lambda own, true, words: 1 - plain_bleu(own, masked(true, words.unknown), 1),
    "gleu": lambda own, true, words: 1 - plain_gleu(own, masked(true, words.unknown)),
    "chunk_f1": plain_chunk_f1,
}
"""What an output costs, by the name of the cost: of (output, target, vocabulary)."""

REFERENCES = {
    "min_edit_distance": plain_distance,
    "best_suffix_bleu_1": lambda own, true: -plain_bleu(own, true, 1),
    "best_suffix_bleu": lambda own, true: -plain_bleu(own, true),
    "best_suffix_gleu": lambda own, true: -plain_gleu(own, true),
}
"""What the best suffix has least of, by the name of the reference policy."""
