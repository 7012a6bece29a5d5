"""Policies of every kind beside copies with static steps."""

import copy

import torch

from freerun.models import steps
from freerun.models.huggingface import steps as cache_steps
from tests.helpers import tiny_batch, tiny_policy, tiny_source
from tests.models.media import media_batch, media_source, tiny_media
from tests.models.models import text_batch, text_source, tiny_adapted

RECURRENT = {
    "gru": {},
    "lstm": {"cell": "lstm", "layers": 2, "attention": "general", "source": "factors"},
    "fed": {"attention": "additive", "input_feeding": True, "bidirectional": True},
    "aligned": {"attention": "aligned", "input_feeding": True, "eos": False, "source": "real"},
}
CAUSAL = {"gpt2": True, "llama": False, "opt": True, "gpt_neox": False}
"""Whether prompts use the tokens of targets."""
WINDOWS = {"mistral": True, "gemma3": False}
"""With a sliding window of 3 slots, in all layers and in one."""
TEXT = {"t5": True, "bart": False, "marian": True}
MEDIA = ("whisper", "speech2text", "vit-gpt2")
ALL = [*CAUSAL, *WINDOWS, *TEXT, *MEDIA, *RECURRENT]


def patch(monkeypatch, *, captures):
    """Let buffers grow often, and steps be captured on the CPU."""
    monkeypatch.setattr(cache_steps, "MIN_SLOTS", 2)
    monkeypatch.setattr(steps, "MIN_POSITIONS", 2)
    if captures:
        monkeypatch.setattr(steps, "CAPTURES", ("cpu",))
        monkeypatch.setattr(steps, "capture", capture)


def capture(function, device):
    """Replace a graph: compute again from the same addresses, into the same outputs.

    So whatever a graph would not see, or would overwrite, is seen.
    """
    with torch.no_grad():
        outputs = function()

    def replay():
        for output, found in zip(outputs, function(), strict=True):
            output.copy_(found)
        return outputs

    return replay


def make(name, **settings):
    """A policy."""
    if name in RECURRENT:
        kind = RECURRENT[name] | settings
        return tiny_policy(5, **{"limit": 9, **kind})
    if name in MEDIA:
        return tiny_media(name, **{"limit": 9, **settings})
    shared = (CAUSAL | WINDOWS | TEXT)[name]
    return tiny_adapted(name, **{"shared": shared, "letters": "abcd", "limit": 9, **settings})


def both(policy):
    """The policy, and a copy with static steps."""
    other = copy.deepcopy(policy)
    other.capture_steps()
    return policy, other


def source_of(name, policy, lengths):
    """Sources of these lengths; of media, a few."""
    if name in RECURRENT:
        return tiny_source(policy, lengths, seed=1)
    if name in MEDIA:
        few = media_source(policy)
        return few.select(torch.arange(len(lengths)) % 3)
    return text_source(policy, lengths, seed=1)


def batch_of(name, policy):
    """Three examples with targets of up to 5 tokens."""
    if name in RECURRENT:
        return tiny_batch(policy, lengths=(3, 1, 4), targets=(4, 5, 3))
    if name in MEDIA:
        return media_batch(policy)
    return text_batch(policy, lengths=(3, 1, 4), targets=(4, 5, 3))
