"""The parts of a Hugging Face model: its decoder, its head, and its tables of positions.

They are found by what they do when the model runs, because architectures use many names for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from freerun.models.huggingface.dropout import WithoutDropout, training_mode
from freerun.policy import evaluation_mode

FAILURES = (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError)
"""Exceptions of models that do not accept their arguments."""

PROBE_LENGTH = 3
"""The number of equal tokens that are read to find tables of positions."""


def find_decoder(model: PreTrainedModel) -> PreTrainedModel:
    """Return the layers that read targets, without a head.

    The decoder of an `EncoderDecoderModel` is a language model with a decoder of its own, and
    `get_decoder` of some language models (Llama 4) returns themselves.
    """
    found = model
    while True:
        inner = found.get_decoder()
        # It may also return an output layer that is called so (ModernBERT).
        if inner is found or not isinstance(inner, PreTrainedModel):
            has_head = found.get_output_embeddings() is not None
            parts = (part for part in found.children() if isinstance(part, PreTrainedModel))
            inner = next(parts, found) if has_head else found
        if inner is found:
            return found
        found = inner


@contextmanager
def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the forward of a module inside the block.

    With a forward hook, the module would still compute its own output first.
    """
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        del vars(module)["forward"]
        if before is not None:
            vars(module)["forward"] = before


class HiddenOnly(BaseModelOutput):
    """The output of layers with only the last hidden states."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def run_head(
    model: PreTrainedModel, decoder: PreTrainedModel, hidden: Float[Tensor, "*rows h"]
) -> Float[Tensor, "*rows v"]:
    """Return the scores that the model's own forward pass computes from last hidden states."""
    states = hidden.reshape(1, -1, hidden.shape[-1])
    given: dict[str, Any] = {"inputs_embeds": states}
    if model.config.is_encoder_decoder:
        # The width only matters for the bridge of an EncoderDecoderModel.
        bridge = getattr(model, "enc_to_dec_proj", None)
        width = states.shape[-1] if bridge is None else bridge.in_features
        encoded = states.new_zeros(1, 1, width)
        given = {
            "encoder_outputs": HiddenOnly(last_hidden_state=encoded),
            "decoder_inputs_embeds": states,
        }

    def stand_in(*args: object, **kwargs: object) -> HiddenOnly:
        return HiddenOnly(last_hidden_state=states)

    with replace_forward(decoder, stand_in):
        scores: Tensor = model(**given, use_cache=False).logits
    return scores.view(*hidden.shape[:-1], scores.shape[-1])


def find_head_scale(model: PreTrainedModel, decoder: PreTrainedModel) -> float | None:
    """Return s if scores are only the output layer of s times the last hidden states; else None.

    Then the layer can be called alone, which is faster than `run_head`. T5 divides hidden states by
    the root of their size; s is 1 otherwise.
    """
    output = model.get_output_embeddings()
    if output is None or model.device.type == "meta":
        return None if output is None else 1.0
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, decoder.config.hidden_size, generator=generator)
    # Of several sizes: a cap shows in large scores.
    hidden = (drawn * torch.tensor([[0.5], [1.0], [4.0], [8.0]])).to(model.device, model.dtype)
    own = {id(weight) for weight in output.parameters()}
    others = [w for w in model.parameters() if w.requires_grad and id(w) not in own]
    # In training mode, as a head may have dropout.
    with torch.enable_grad(), training_mode(model), WithoutDropout() as mode:
        scales = (1.0, hidden.shape[1] ** -0.5)
        try:
            plain = {scale: output(hidden * scale) for scale in scales}
        except FAILURES:  # something comes before it, such as a projection
            return None
        try:
            scores = run_head(model, decoder, hidden)
        except (ValueError, *FAILURES):
            return 1.0  # the only way left; it is compared with a whole pass like any other
        found = (scale for scale in scales if torch.equal(scores.float(), plain[scale].float()))
        scale = next(found, None)
        if mode.seen or scale is None or not others or not scores.requires_grad:
            return None if mode.seen else scale
        # A weight may have no effect only at first, such as a factor that starts at 1.
        used = torch.autograd.grad(scores.sum(), others, allow_unused=True)
    return scale if all(gradient is None for gradient in used) else None


@dataclass(frozen=True)
class PositionTable:
    """A table with an embedding for every position.

    Attributes:
        module: the module that looks positions up.
        name: the name of the table in the module.
        first: the row of position 0; BART and OPT have others before it.
    """

    module: nn.Module
    name: str
    first: int

    @property
    def size(self) -> int:
        """The number of positions."""
        return len(getattr(self.module, self.name)) - self.first

    def look_up(self, positions: Int[Tensor, "n q"]) -> Float[Tensor, "n q h"]:
        """Return the embeddings of positions."""
        return F.embedding(positions + self.first, getattr(self.module, self.name))


@torch.no_grad()
def find_position_table(
    stack: nn.Module,
    config: PreTrainedConfig,
    position_ids: Int[Tensor, "1 q"] | None = None,
) -> PositionTable | None:
    """Find the table in which layers look positions up; None if they have none.

    It is the table that returns consecutive rows when equal tokens are read.

    Args:
        stack: an encoder or a decoder.
        config: the configuration of the model.
        position_ids: the positions that it gets, if any.
    """
    device, found = next(stack.parameters()).device, []
    if device.type == "meta":
        return None
    # The encoder of FSMT is a plain module.
    embedding = stack.get_input_embeddings() if isinstance(stack, PreTrainedModel) else None

    def compare(name: str, module: nn.Module, args: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.shape[-1] != getattr(module, name).shape[1]:
            return
        rows, table = output.reshape(-1, output.shape[-1])[:PROBE_LENGTH], getattr(module, name)
        for first in (table == rows[0]).all(1).nonzero()[:, 0].tolist():
            if torch.equal(table[first : first + PROBE_LENGTH], rows):
                found.append(PositionTable(module, name, first))
                return

    with ExitStack() as hooks:
        for module in stack.modules():
            # Learned ones have a weight, sinusoids sometimes a buffer.
            name = "weight" if isinstance(module, nn.Embedding) else "weights"
            table = getattr(module, name, None)
            if module is not embedding and isinstance(table, Tensor) and table.dim() == 2:
                hook = module.register_forward_hook(partial(compare, name))
                hooks.callback(hook.remove)
        pad, given = getattr(config, "pad_token_id", None), {}
        if position_ids is not None:
            given["position_ids"] = position_ids
        # Positions may skip padding.
        tokens = torch.full((1, PROBE_LENGTH), 1 if pad == 0 else 0, device=device)
        with evaluation_mode(stack), suppress(ValueError, *FAILURES):
            stack(input_ids=tokens, attention_mask=torch.ones_like(tokens), **given)
    return found[0] if found else None


def takes_positions(stack: PreTrainedModel) -> bool:
    """Return whether layers take `position_ids`; those of the family of BART count slots."""
    return "position_ids" in inspect.signature(type(stack).forward).parameters
