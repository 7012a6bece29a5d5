"""A few tokens, read in every way a policy reads, and compared to the model's own forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from freerun.batch import Source
from freerun.policy import evaluation_mode

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

SOURCES = (2, 5, 1)
"""The lengths of the sources of the probe."""

CELLS = 4
"""The cells of each of its rows."""

FAILURES = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)
"""What models raise that do not take what they are given."""

Found = Iterator[tuple[str, Float[Tensor, "n a"], Float[Tensor, "n a"]]]
"""What was read, the scores that came of it, and those that should have come."""


@torch.no_grad()
def probe(policy: HuggingFacePolicy) -> None:
    """Compare rows of different lengths, steps, forks and embeddings to recomputation.

    Raises:
        ValueError: where scores differ, and it says of what; or where the model cannot be run so.
    """
    if policy.device.type == "meta":
        return
    name = type(policy.inner).__name__
    try:
        with evaluation_mode(policy):
            for what, scores, expected in _readings(policy):
                if not _close(scores, expected):
                    difference = float((scores - expected).abs().max())
                    raise ValueError(
                        f"{name} cannot be used: of {what}, its scores differ from recomputation "
                        f"by {difference:.2g}"
                    )
    except FAILURES as error:
        raise ValueError(
            f"{name} cannot be used: it does not read rows with a cache ({error!r})"
        ) from error


@torch.no_grad()
def reads_trees(policy: HuggingFacePolicy) -> bool:
    """Whether a tree of prefixes is scored as each of its paths alone."""
    if policy.device.type == "meta":
        return False
    with evaluation_mode(policy):
        source, inputs = _example(policy)
        tree = torch.cat([inputs, inputs[:, 1:].flip(1)], 1)
        parents = torch.tensor([-1, 0, 1, 2, 0, 4, 5], device=inputs.device)
        everywhere = torch.ones_like(tree, dtype=torch.bool)
        try:
            trace = policy.force(source, tree, parents.expand_as(tree))
            scores = trace.logits(everywhere).unflatten(0, tree.shape)
        except (ValueError, *FAILURES):
            return False
        for path in ([0, 1, 2, 3], [0, 4, 5, 6]):
            if not _close(scores[:, path], _recomputed(policy, source, tree[:, path])):
                return False
    return True


def _close(scores: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> bool:
    """Whether scores are the same, as far as their precision goes."""
    half = scores.dtype in (torch.float16, torch.bfloat16)
    scale = 1 + float(expected.abs().max())
    return float((scores - expected).abs().max()) <= (5e-2 if half else 1e-3) * scale


def _readings(policy: HuggingFacePolicy) -> Found:
    source, inputs = _example(policy)
    expected = _recomputed(policy, source, inputs)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    trace = policy.force(source, inputs)
    yield "rows of different lengths", trace.logits(everywhere), expected.flatten(0, 1)
    embedded = policy.force(source, policy.embed(inputs))
    yield "embeddings in place of tokens", embedded.logits(everywhere), expected.flatten(0, 1)
    state = policy.start(source)
    for cell in range(CELLS):
        scores, state = policy.step(state, inputs[:, cell])
        yield "tokens read one by one", scores, expected[:, cell]
    rows = torch.tensor([2, 0, 1, 1], device=inputs.device)
    cells = torch.tensor([0, CELLS - 2, 1, 0], device=inputs.device)
    forked = trace.fork(rows, cells)
    scores, _ = policy.step(forked, inputs[rows, cells + 1])
    yield "forks of rows at different cells", scores, expected[rows, cells + 1]


def _example(policy: HuggingFacePolicy) -> tuple[Source, Int[Tensor, "b t"]]:
    """Some sources, and inputs to read after them."""
    device, vocabulary = policy.device, policy.vocabulary
    table = policy.inner.get_input_embeddings().weight.shape[0]
    sources = vocabulary.actions if policy.shared else table - vocabulary.size
    count, longest = len(SOURCES), max(SOURCES)
    cells = torch.arange(longest, device=device)
    rows = torch.arange(count, device=device)[:, None]
    values = (7 * rows + 3 * cells + 1) % max(sources, 1)
    mask = cells < torch.tensor(SOURCES, device=device)[:, None]
    inputs = (5 * rows + 2 * torch.arange(CELLS, device=device) + 1) % vocabulary.actions
    inputs[:, 0] = vocabulary.bos
    return Source(values, mask), inputs


def _recomputed(
    policy: HuggingFacePolicy, source: Source, inputs: Int[Tensor, "b t"]
) -> Float[Tensor, "b t a"]:
    """The scores of the model's own forward pass, for each row alone."""
    found = []
    values = source.values if policy.shared else source.values + policy.vocabulary.size
    for row, length in enumerate(SOURCES):
        prompt, written = values[row, :length], inputs[row]
        if policy.config.is_encoder_decoder:
            read = {"input_ids": prompt[None], "decoder_input_ids": written[None]}
        else:
            written = written[1:] if policy.shared else written
            read = {"input_ids": torch.cat([prompt, written])[None]}
        scores = policy.inner(**read, use_cache=False).logits[0, -CELLS:]
        found.append(scores[:, : policy.vocabulary.actions])
    return torch.stack(found)
