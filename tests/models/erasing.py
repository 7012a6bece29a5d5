"""Policies of every kind whose vocabulary has a backspace, which they choose often."""

import torch

from freerun.models.huggingface import adapt
from tests.helpers import tiny_policy, vocabulary
from tests.models.models import letters_of, tiny_model, words_of

RECURRENT = {
    "gru": {},
    "lstm": {"cell": "lstm", "layers": 2},
    "attention": {"attention": "general", "bidirectional": True},
    "input-feeding": {"attention": "additive", "input_feeding": True, "cell": "lstm"},
}
SHARED = {
    "gpt2": True,
    "llama": False,
    "qwen2": True,
    "gpt_neox": False,
    "opt": True,
    "bart": True,
    "mbart": False,
}
"""Architectures that read trees, and whether sources are written in the tokens of targets."""
SEEDS = {"gpt_neox": 2}
"""Where 0 makes a policy that hardly ever withdraws."""
BOTH = [*RECURRENT, *SHARED]


def erasing_policy(name, *, limit=9, seed=None, letters="abcd", **settings):
    """A tiny policy that writes letters, eos and backspaces."""
    seed = SEEDS.get(name, 0) if seed is None else seed
    if name in RECURRENT:
        words = vocabulary(len(letters) + 1).with_backspace()
        policy = tiny_policy(limit=limit, words=words, seed=seed, **RECURRENT[name], **settings)
        weight, first = policy.output.weight, 0
    else:
        shared = SHARED.get(name, True)
        words = words_of(name, shared=shared, letters=letters).with_backspace()
        rows = words.size + (0 if shared else len(letters) + 1)
        model = tiny_model(name, rows=rows, seed=seed, **settings)
        policy = adapt(model, words, limit=limit, shared=shared)
        weight, first = model.get_output_embeddings().weight, letters_of(policy)[0]
    with torch.no_grad():  # where two of the letters would do, none is kept
        head = [weight] if name not in RECURRENT else [weight, policy.output.bias]
        for part in head:
            part *= 0.5
            part[words.backspace] = part[first] + part[first + 1]
            part[words.eos] *= 0.5
        if name in RECURRENT:
            policy.output.bias[words.backspace] += 1
    return policy
