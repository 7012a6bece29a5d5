"""Plain, slow twins: what is right, computed with no batch, no padding and no state.

Every score comes from a whole prefix that is forced from scratch, one example at a time.
"""

import torch

from tests.helpers import single


def scores_after(policy, source, inputs):
    """The scores at the last of `inputs`, [a]."""
    last = torch.zeros(1, inputs.shape[1], dtype=torch.bool)
    last[0, -1] = True
    return policy.force(source, inputs).logits(last)[0]


def twin_roll_in(policy, batch, own, choose):
    """What `roll_in.roll_in` returns, padding aside: inputs of each row, a list for each."""
    rows = []
    for row in range(len(batch.ids)):
        one = single(batch, row)
        inputs = [policy.vocabulary.bos]
        for cell in range(1, one.target.shape[1]):
            token = one.target[0, cell - 1]
            if own[row, cell]:
                scores = scores_after(policy, one.source, torch.tensor([inputs]))
                token = choose(scores[None], torch.tensor([row]), torch.tensor([cell - 1]))[0]
            inputs.append(int(token))
        rows.append(inputs)
    return rows


def twin_score_relaxed(policy, batch, own, relax):
    """What `roll_in.score_relaxed` returns: the scores at all target cells, row by row."""
    found = []
    for row in range(len(batch.ids)):
        one = single(batch, row)
        inputs = policy.embed(torch.tensor([[policy.vocabulary.bos]]))
        for cell in range(one.target.shape[1]):
            scores = scores_after(policy, one.source, inputs)
            found.append(scores)
            if cell + 1 == one.target.shape[1]:
                break
            if own[row, cell + 1]:
                read = policy.embed(relax(scores[None], torch.tensor([row]), torch.tensor([cell])))
            else:
                read = policy.embed(one.target[:, cell])
            inputs = torch.cat([inputs, read[:, None]], 1)
    return torch.stack(found)


def twin_passes(policy, batch, own, feed, passes):
    """The scores at all target cells in the last of so many passes, row by row.

    Every pass scores whole prefixes of the inputs that the pass before it gave.
    """
    found = []
    for row in range(len(batch.ids)):
        one = single(batch, row)
        tokens = torch.cat([torch.tensor([[policy.vocabulary.bos]]), one.target[:, :-1]], 1)
        inputs = reference = policy.embed(tokens)
        for _ in range(passes):
            cells = range(1, inputs.shape[1] + 1)
            scores = [scores_after(policy, one.source, inputs[:, :cell]) for cell in cells]
            read = list(reference.unbind(1))
            for cell in cells[:-1]:
                if own[row, cell]:
                    at = torch.tensor([row]), torch.tensor([cell - 1])
                    read[cell] = policy.embed(feed(scores[cell - 1][None], *at))
            inputs = torch.stack(read, 1)
        found += scores
    return torch.stack(found)


def twin_decode(policy, source, choose, limit):
    """Tokens of one sentence: `choose(scores, cell)` at every cell, to eos or the limit."""
    tokens = []
    while len(tokens) < limit and (not tokens or tokens[-1] != policy.vocabulary.eos):
        inputs = torch.tensor([[policy.vocabulary.bos, *tokens]])
        tokens.append(int(choose(scores_after(policy, source, inputs), len(tokens))))
    return tokens


def twin_beam(policy, source, size, penalty, limit):
    """What `beam_search` promises for one sentence: its tokens and their log-probability."""
    eos, live, found, ended = policy.vocabulary.eos, [((), 0.0)], None, 0
    for _ in range(limit):
        candidates = []
        for tokens, log_prob in live:
            inputs = torch.tensor([[policy.vocabulary.bos, *tokens]])
            more = scores_after(policy, source, inputs).log_softmax(-1).tolist()
            candidates += [((*tokens, token), log_prob + more[token]) for token in range(len(more))]
        candidates.sort(key=lambda candidate: -candidate[1])
        for tokens, log_prob in candidates[:size]:
            if tokens[-1] == eos:
                ended += 1
                value = log_prob / len(tokens) ** penalty
                if found is None or value > found[0]:
                    found = value, tokens, log_prob
        live = [candidate for candidate in candidates if candidate[0][-1] != eos][:size]
        best = live[0][1] / limit**penalty
        if ended >= size or (found is not None and best <= found[0]):
            break
    return found[1:] if found else live[0]


def twin_backtrack(policy, source, choose, limit, *, forbid_repeats=False):
    """Actions of one sentence, and what remains: `choose(scores, cell)`, to eos or the limit.

    `forbid_repeats` rules out what was withdrawn, by a stack of sets, one for each prefix.
    """
    words, text, actions, gone = policy.vocabulary, [], [], [set()]
    while len(actions) < limit and (not actions or actions[-1] != words.eos):
        scores = scores_after(policy, source, torch.tensor([[words.bos, *text]])).clone()
        if forbid_repeats:
            scores[sorted(gone[-1])] = -torch.inf
            scores[words.backspace] = scores[words.backspace] if text else -torch.inf
        actions.append(int(choose(scores, len(actions))))
        if actions[-1] != words.backspace:
            text.append(actions[-1])
            gone.append(set())
        elif text:
            gone.pop()
            gone[-1].add(text.pop())
    return actions, text
