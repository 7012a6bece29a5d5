"""Export a recurrent model to ONNX, and write with it without torch.

    pip install onnx onnxruntime
    python examples/export_onnx.py runs/spelling model.onnx "thw house" "in rhe sea"

The exported graph reads whole prefixes: `scores` of all cells from `source`, `source_mask` and
`tokens`, of any number of rows and lengths. Greedy decoding runs it once per token.
"""

import argparse

import numpy as np
import onnxruntime
import torch

from freerun import load_policy
from freerun.models import RecurrentPolicy

INPUTS = ("source", "source_mask", "tokens")


def export(policy, path):
    """Write the graph of a policy to a file.

    Raises:
        SystemExit: if it cannot be exported.
    """
    if not isinstance(policy, RecurrentPolicy) or policy.config.features is not None:
        raise SystemExit("only recurrent models of tokens are exported here; see docs/serving.md")
    if policy.config.attention not in ("general", "additive") or policy.config.input_feeding:
        raise SystemExit("the exporter needs general or additive attention, and no input feeding")
    source = torch.zeros(2, 3, dtype=torch.long)
    tokens = torch.full((2, 2), policy.vocabulary.bos)
    torch.onnx.export(
        policy.eval(),
        (source, torch.ones_like(source, dtype=torch.bool), tokens),
        path,
        dynamo=False,  # torch.export cannot trace packed rows
        input_names=list(INPUTS),
        output_names=["scores"],
        dynamic_axes={
            "source": {0: "rows", 1: "positions"},
            "source_mask": {0: "rows", 1: "positions"},
            "tokens": {0: "rows", 1: "cells"},
            "scores": {0: "rows", 1: "cells"},
        },
    )


def write_greedily(session, source, mask, *, bos, eos, limit):
    """Return the greedy outputs of sources, without eos, as lists of tokens."""
    tokens = np.full((len(source), 1), bos)
    for _ in range(limit):
        inputs = dict(zip(INPUTS, (source, mask, tokens), strict=True))
        (scores,) = session.run(["scores"], inputs)
        tokens = np.concatenate([tokens, scores[:, -1:].argmax(-1)], 1)
        if (tokens == eos).any(1).all():
            break
    return [row[: row.index(eos)] if eos in row else row for row in tokens[:, 1:].tolist()]


def main(given=None):
    """Export, and return the outputs of the given texts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="the folder of a run")
    parser.add_argument("path", help="the file to write")
    parser.add_argument("texts", nargs="*", help="sources to try it on")
    given = parser.parse_args(given)
    policy, codec = load_policy(given.folder)
    export(policy, given.path)
    if not given.texts:
        return []
    sources = codec.encode_sources([{"source": text} for text in given.texts])
    batch, words = sources.batch(range(len(sources))), policy.vocabulary
    session = onnxruntime.InferenceSession(given.path)
    read = batch.source.values.numpy(), batch.source.mask.numpy()
    options = {"bos": words.bos, "eos": words.eos, "limit": policy.config.limit}
    return [codec.decode(row) for row in write_greedily(session, *read, **options)]


if __name__ == "__main__":
    print(*main(), sep="\n")
