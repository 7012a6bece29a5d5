"""The few short rows that checks of a model read, and how scores are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Source

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

SOURCES = (2, 5, 1)
"""The lengths of the sources."""

LONGEST = SOURCES.index(max(SOURCES))
"""The row of the longest source, which has no padding."""

CELLS = 4
"""The number of cells of each row."""


def make_example(policy: HuggingFacePolicy) -> tuple[Source, Int[Tensor, "b t"]]:
    """Return some sources, and inputs to read after them."""
    vocabulary = policy.vocabulary
    cells = torch.arange(CELLS, device=policy.device)
    rows = torch.arange(len(SOURCES), device=policy.device)[:, None]
    inputs = (5 * rows + 2 * cells + 1) % vocabulary.actions
    # Some decoders give padding no position.
    other = next(a for a in range(vocabulary.actions) if a != vocabulary.pad)
    inputs = inputs.where(inputs != vocabulary.pad, other)
    inputs[:, 0] = vocabulary.bos
    return policy.make_example_source(SOURCES), inputs


def recompute(
    policy: HuggingFacePolicy, source: Source, inputs: Int[Tensor, "b t"]
) -> Float[Tensor, "b t a"]:
    """Return the scores of the model's own forward pass, for each row alone."""
    found, prefix = [], inputs.new_tensor(policy.prefix)
    for row, length in enumerate(source.lengths.tolist()):
        alone = Source(source.values[row : row + 1, :length], source.mask[row : row + 1, :length])
        read, written = policy.name_inputs(alone), inputs[row]
        if policy.config.is_encoder_decoder:
            read["decoder_input_ids"] = torch.cat([prefix, written])[None]
        else:
            written = written[1:] if policy.shared else written
            read["input_ids"] = torch.cat([read["input_ids"][0], written])[None]
        scores = policy.inner(**read, use_cache=False).logits[0, -CELLS:]
        found.append(scores[:, : policy.vocabulary.actions])
    return torch.stack(found)


def raise_out_of_memory(error: Exception, name: str) -> None:
    """Raise an OutOfMemoryError if an error says that memory is not sufficient."""
    # On a CPU and in cuBLAS and cuDNN, torch raises a plain RuntimeError.
    signs = ("can't allocate memory", "ALLOC_FAILED")
    if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs):
        raise torch.OutOfMemoryError(
            f"out of memory while the scores of {name} were checked on a few short rows: {error}"
        ) from error


def are_close(scores: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> bool:
    """Return whether scores are equal, up to the precision of their dtype."""
    half = scores.dtype in (torch.float16, torch.bfloat16)
    scale = 1 + float(expected.abs().max())
    return float((scores - expected).abs().max()) <= (5e-2 if half else 1e-3) * scale
