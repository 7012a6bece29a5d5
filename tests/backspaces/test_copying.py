"""Trees of prefixes score as the paper's copying scheme does."""

import pytest
import torch

from freerun.backspaces import build_tree
from freerun.losses import ScoredActions, behavior_cloning_loss
from tests.backspaces.padding import padded
from tests.copying_twin import causal_scores, copies, recurrent_scores
from tests.helpers import close, gradients, tiny_policy, tiny_source
from tests.models.models import ARCHITECTURES, letters_of, text_source, tiny_adapted

BACKSPACE = 999
"""No token of the models, and so never fed."""


def test_copies_by_hand():
    """x y a ⌫ b eos and, at the prompt, ⌫: y is fed three times at place 1."""
    x, y, a, b, eos = range(5)
    tokens, places, mask = copies([x, y], [BACKSPACE, a, BACKSPACE, b, eos], BACKSPACE)
    assert tokens.tolist() == [x, y, y, a, y, b, eos]
    assert places.tolist() == [0, 1, 1, 2, 1, 2, 3]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1, 1, 1],
    ]


def sequences(letters, eos, *, seed=0):
    """Runs of withdrawals, at the prompt too; tokens typed again; what ended and what did not."""
    low, high = letters
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = (low + torch.randperm(high - low, generator=generator)[:4]).tolist()
    back = BACKSPACE
    return [
        [a, b, back, c, back, back, d, eos],
        [back, a, back, back, a, b, back, b],
        [b, c, d, back, back, back, c, back, a, eos],
        [d, eos],
    ]


def check(policy, source, scores_of, tolerance):
    """Scores before every action and after all, and the gradient of the log loss."""
    words = policy.vocabulary
    rows = sequences(letters_of(policy) if hasattr(policy, "shared") else (0, 4), words.eos)
    actions, mask = padded(rows, words.pad, more=1)
    tree = build_tree(actions, mask, bos=words.bos, pad=words.pad, backspace=BACKSPACE)
    scores = policy.force(source, tree.tokens, tree.parents).logits(tree.mask)
    numbers = (tree.mask.flatten().cumsum(0) - 1).view_as(tree.mask).gather(1, tree.tops)
    total = 0.0
    for row, taken in enumerate(rows):
        found = scores[numbers[row, : len(taken) + 1]]
        twin = scores_of(policy, source.select(torch.tensor([row])), taken, BACKSPACE)
        close(found, twin, tolerance)
        typed = torch.tensor([action != BACKSPACE for action in taken])
        log_probs = twin[:-1][typed].log_softmax(-1)
        total = total - log_probs.gather(1, torch.tensor(taken)[typed][:, None]).sum()
    # The models have no score for the backspace: what is cloned are the tokens.
    kept = mask & (actions != BACKSPACE)
    ended = torch.tensor([row[-1] == words.eos for row in rows])
    loss = behavior_cloning_loss(
        ScoredActions.from_scores(scores, tree.mask, tree.tops, actions, kept, ended)
    )
    close(loss, total, 100 * tolerance)
    close(gradients(policy, loss), gradients(policy, total), 1000 * tolerance)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("shared", [True, False])
def test_decoders(name, attention, shared):
    """Absolute and rotary positions; after a prompt, and after bos."""
    policy = tiny_adapted(name, shared=shared, attention=attention)
    check(policy, text_source(policy), causal_scores, ARCHITECTURES[name].tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "gru"},
        {"cell": "lstm", "layers": 2},
        {"cell": "gru", "attention": "general"},
        {"cell": "lstm", "attention": "general", "input_feeding": True},
    ],
    ids=str,
)
def test_recurrent_policies(settings):
    policy = tiny_policy(5, limit=12, **settings)
    check(policy, tiny_source(policy), recurrent_scores, 1e-12)
