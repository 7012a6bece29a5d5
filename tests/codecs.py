"""Small codecs, learned on the spot."""

from dataclasses import replace

import numpy as np

from freerun.data import FeatureCodec, TextCodec, Tokens
from freerun.tasks import Ocr


def character_codec(alphabet, longest=10):
    """Characters in and characters out; outputs may be half as long again as `longest`."""
    tokens = Tokens("characters", alphabet=alphabet)
    rows = [{"source": alphabet, "target": alphabet}]
    codec = TextCodec.learn(rows, [], target_tokens=tokens, source_tokens=tokens)
    return replace(codec, limit=longest + longest // 2 + 1)


def pairs(*texts):
    """Rows of sources and targets that are alike."""
    return [{"source": text, "target": text} for text in texts]


def two_alphabets(source, target, longest):
    """Characters of one alphabet in, of another out; outputs as in `character_codec`."""
    rows = [{"source": source, "target": target}]
    sides = {"source_tokens": "characters", "target_tokens": Tokens("characters", alphabet=target)}
    codec = TextCodec.learn(rows, [], **sides)
    return replace(codec, limit=longest + longest // 2 + 1)


def letters_of_images():
    """Images of 128 pixels in, a letter for each out, as the task ocr has them."""
    rows = [{"features": np.zeros((1, 128)), "target": "a"}]
    return FeatureCodec.learn(rows, [], target_tokens=Ocr.target_tokens, fixed_length=True)


def source_texts(codec, examples):
    """The text of every source."""
    batch = examples.batch(range(len(examples)))
    rows = zip(batch.source.values, batch.source.mask, strict=True)
    return [codec.source_text(values[mask]) for values, mask in rows]
