"""Pairs of sequences as rows of tensors, and the costs of one pair in plain Python."""

import math
from collections import Counter

import torch
from hypothesis import strategies as st


def sequences(tokens=4, longest=9):
    """Sequences of few different tokens, so that n-grams repeat."""
    return st.lists(st.integers(0, tokens - 1), max_size=longest)


def pairs(tokens=4, longest=9, most=6):
    """A few pairs of sequences."""
    pair = st.tuples(sequences(tokens, longest), sequences(tokens, longest))
    return st.lists(pair, min_size=1, max_size=most)


def padded(rows, fill=1, extra=0):
    """Rows as a rectangle and their lengths, filled up with tokens that would count if read."""
    width = max(map(len, rows), default=0) + extra
    table = [list(row) + [fill] * (width - len(row)) for row in rows]
    tokens = torch.tensor(table, dtype=torch.int64).reshape(len(rows), width)
    return tokens, torch.tensor([len(row) for row in rows], dtype=torch.int64)


def columns(rows, *, fills=(1, 2), extra=0):
    """The four tensors of pairs."""
    one, other = zip(*rows, strict=True)
    return *padded(one, fills[0], extra), *padded(other, fills[1], extra)


def masked(reference, unknown):
    """A reference in which `unknown` is something that no output holds."""
    return [object() if token == unknown else token for token in reference]


def plain_matches(hypothesis, reference, n):
    return sum((ngrams(hypothesis, n) & ngrams(reference, n)).values())


def ngrams(sequence, n):
    return Counter(tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))


def plain_bleu(hypothesis, reference, orders=4):
    """The score, as section 3 of Papineni et al. and the smoothing of SEARNN say."""
    if not hypothesis and not reference:
        return 1.0
    if plain_matches(hypothesis, reference, 1) == 0:
        return 0.0
    score = 1.0
    for n in range(1, orders + 1):
        count = max(0, len(hypothesis) - n + 1)
        score *= ((plain_matches(hypothesis, reference, n) + 1) / (count + 1)) ** (1 / orders)
    if len(hypothesis) < len(reference):
        score *= math.exp(1 - len(reference) / len(hypothesis))
    return score


def plain_gleu(hypothesis, reference):
    """The score, from all n-grams of either side in one bag."""
    own, true = (
        Counter(gram for n in (1, 2, 3, 4) for gram in ngrams(side, n).elements())
        for side in (hypothesis, reference)
    )
    most = max(sum(own.values()), sum(true.values()))
    return sum((own & true).values()) / most if most else 1.0


def plain_table(hypothesis, reference):
    """The table of Wagner and Fischer: the distances of all prefixes to each other."""
    table = [list(range(len(reference) + 1))]
    for token in hypothesis:
        above, row = table[-1], [table[-1][0] + 1]
        for j, other in enumerate(reference):
            row.append(min(above[j] + (token != other), above[j + 1] + 1, row[j] + 1))
        table.append(row)
    return table
