"""Small codecs, learned on the spot."""

from dataclasses import replace

from freerun.data import TextCodec, Tokens


def character_codec(alphabet, longest=10):
    """Characters in and characters out; outputs may be half as long again as `longest`."""
    tokens = Tokens("characters", alphabet=alphabet)
    rows = [{"source": alphabet, "target": alphabet}]
    codec = TextCodec.learn(rows, [], target_tokens=tokens, source_tokens=tokens)
    return replace(codec, limit=longest + longest // 2 + 1)


def pairs(*texts):
    """Rows of sources and targets that are alike."""
    return [{"source": text, "target": text} for text in texts]
