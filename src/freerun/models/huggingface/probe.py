"""Checks of a model before it is used: a few tokens, read in every way in which a policy reads.

Their scores are compared with those of the model's own forward pass, for each row alone.
"""

from __future__ import annotations

import traceback
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
"""The lengths of the sources."""

CELLS = 4
"""The number of cells of each row."""

FAILURES = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)
"""What models raise if they do not take what they are given."""

Reading = tuple[str, str, Float[Tensor, "n a"], Float[Tensor, "n a"]]
"""What was read, what to override if it is wrong, the scores, and the expected scores."""


@torch.no_grad()
def check_scores(policy: HuggingFacePolicy) -> None:
    """Compare steps, forks, embeddings and rows of different lengths with plain forward passes.

    Raises:
        ValueError: if scores differ, or the model cannot be run like this; the message says of
            what, and what a subclass should override.
        torch.OutOfMemoryError: if there is no memory for it.
    """
    if policy.device.type == "meta":
        return
    name, kind = type(policy.inner).__name__, type(policy).__name__
    with evaluation_mode(policy):
        try:
            for what, override, scores, expected in _read_in_every_way(policy):
                if not _are_close(scores, expected):
                    difference = float((scores - expected).abs().max())
                    raise ValueError(
                        f"{name} cannot be used: of {what}, its scores differ from its own forward "
                        f"pass by {difference:.2g}; override {override} in a subclass of {kind} "
                        "and register it with register_policy"
                    )
        except FAILURES as error:
            _raise_out_of_memory(error, name)
            # What a subclass overrides may be at fault itself.
            called = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
            for override in ("project", "embed"):
                if override in called:
                    raise ValueError(
                        f"{name} cannot be used: {override} of {kind} fails ({error!r})"
                    ) from error
            raise ValueError(
                f"{name} cannot be used: it does not read rows with a cache ({error!r}); override "
                f"read in a subclass of {kind} and register it with register_policy"
            ) from error


@torch.no_grad()
def can_read_trees(policy: HuggingFacePolicy) -> bool:
    """Return whether a tree of prefixes is scored as each of its paths alone.

    Raises:
        torch.OutOfMemoryError: if there is no memory to try it.
    """
    if policy.device.type == "meta":
        return False
    with evaluation_mode(policy):
        source, inputs = _make_example(policy)
        tree = torch.cat([inputs, inputs[:, 1:].flip(1)], 1)
        parents = torch.tensor([-1, 0, 1, 2, 0, 4, 5], device=inputs.device)
        everywhere = torch.ones_like(tree, dtype=torch.bool)
        try:
            trace = policy.force(source, tree, parents.expand_as(tree))
            scores = trace.logits(everywhere).unflatten(0, tree.shape)
        except (ValueError, *FAILURES) as error:
            _raise_out_of_memory(error, type(policy.inner).__name__)
            return False
        for path in ([0, 1, 2, 3], [0, 4, 5, 6]):
            if not _are_close(scores[:, path], _recompute(policy, source, tree[:, path])):
                return False
    return True


def _raise_out_of_memory(error: Exception, name: str) -> None:
    """Raise an error of its own if another says that there is no memory."""
    # On a CPU and in cuBLAS and cuDNN, torch raises a plain RuntimeError.
    signs = ("can't allocate memory", "ALLOC_FAILED")
    if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in signs):
        raise torch.OutOfMemoryError(
            f"out of memory while the scores of {name} were checked on a few short rows: {error}"
        ) from error


def _are_close(scores: Float[Tensor, "*shape"], expected: Float[Tensor, "*shape"]) -> bool:
    """Return whether scores are the same, as far as their dtype can tell."""
    half = scores.dtype in (torch.float16, torch.bfloat16)
    scale = 1 + float(expected.abs().max())
    return float((scores - expected).abs().max()) <= (5e-2 if half else 1e-3) * scale


def _read_in_every_way(policy: HuggingFacePolicy) -> Iterator[Reading]:
    source, inputs = _make_example(policy)
    expected = _recompute(policy, source, inputs)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)
    # The longest row has no padding: if its scores are wrong, so is the head.
    longest = torch.tensor([SOURCES.index(max(SOURCES))], device=inputs.device)
    alone = policy.force(source.select(longest), inputs[longest]).logits(everywhere[longest])
    yield "a row alone", "project", alone, expected[longest].flatten(0, 1)
    trace = policy.force(source, inputs)
    yield "rows of different lengths", "read", trace.logits(everywhere), expected.flatten(0, 1)
    embedded = policy.force(source, policy.embed(inputs)).logits(everywhere)
    yield "embeddings in place of tokens", "embed", embedded, expected.flatten(0, 1)
    state = policy.start(source)
    for cell in range(CELLS):
        scores, state = policy.step(state, inputs[:, cell])
        yield "tokens read one by one", "read", scores, expected[:, cell]
    rows = torch.tensor([2, 0, 1, 1], device=inputs.device)
    cells = torch.tensor([0, CELLS - 2, 1, 0], device=inputs.device)
    forked = trace.fork(rows, cells)
    scores, _ = policy.step(forked, inputs[rows, cells + 1])
    yield "forks of rows at different cells", "read", scores, expected[rows, cells + 1]


def _make_example(policy: HuggingFacePolicy) -> tuple[Source, Int[Tensor, "b t"]]:
    """Return some sources, and inputs to read after them."""
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


def _recompute(
    policy: HuggingFacePolicy, source: Source, inputs: Int[Tensor, "b t"]
) -> Float[Tensor, "b t a"]:
    """Return the scores of the model's own forward pass, for each row alone."""
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
