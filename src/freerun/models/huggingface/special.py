"""Policies of single architectures that read in unusual ways."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import (
    LEDForConditionalGeneration,
    PegasusXForConditionalGeneration,
    RoFormerForCausalLM,
    Speech2TextForConditionalGeneration,
)

from freerun.models.huggingface.causal import CausalPolicy
from freerun.models.huggingface.media import MediaPolicy
from freerun.models.huggingface.registry import register_policy
from freerun.models.huggingface.seq2seq import Seq2SeqPolicy
from freerun.models.huggingface.stack import PositionTable, replace_forward


@register_policy(LEDForConditionalGeneration)
class LEDPolicy(Seq2SeqPolicy):
    """LED, whose decoder omits the mask if it reads a single slot.

    Its layers get the mask, so that they do not attend to slots that a row has not read.
    """

    def run_decoder(self, positions: Int[Tensor, "n q"], **kwargs: Any) -> Any:
        """Run the decoder, with the mask also for a single slot."""
        mask = kwargs["attention_mask"]
        if mask is None or positions.shape[1] > 1:
            return super().run_decoder(positions, **kwargs)
        if mask.dim() == 2:
            hidden = torch.zeros(mask.shape, dtype=self.dtype, device=mask.device)
            mask = hidden.masked_fill(~mask, torch.finfo(self.dtype).min)[:, None, None]

        def add_mask(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0], mask, *args[2:])

        with ExitStack() as hooks:
            for layer in self.decoder.layers:
                hooks.callback(layer.register_forward_pre_hook(add_mask).remove)
            return super().run_decoder(positions, **kwargs)


@register_policy(PegasusXForConditionalGeneration)
class PegasusXPolicy(Seq2SeqPolicy):
    """PEGASUS-X, whose decoder computes positions from the number of slots, without a table."""

    def run_decoder(self, positions: Int[Tensor, "n q"], **kwargs: Any) -> Any:
        """Run the decoder, with every token at its given position."""
        module = self.decoder.embed_positions

        def compute(inputs_embeds: Tensor, *args: object, **kwargs: object) -> Tensor:
            count = int(positions.max()) + 1
            shape = (1, count, inputs_embeds.shape[-1])
            return type(module).forward(module, inputs_embeds.new_empty(shape))[0][positions]

        with replace_forward(module, compute):
            return super().run_decoder(positions, **kwargs)


@register_policy(RoFormerForCausalLM)
class RoFormerPolicy(CausalPolicy):
    """RoFormer, whose layers all get the angles of the slots, the same for every row."""

    def run_decoder(self, positions: Int[Tensor, "n q"], **kwargs: Any) -> Any:
        """Run the layers, with every token at its given position."""
        table = cast("PositionTable", self.position_table)
        angles = table.look_up(positions)[:, None]

        def add_angles(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (*args[:2], angles, *args[3:])

        with ExitStack() as hooks:
            for layer in self.decoder.encoder.layer:
                hooks.callback(layer.register_forward_pre_hook(add_angles).remove)
            # More slots than positions, some of them padding, have no angles of their own.
            hooks.enter_context(replace_forward(table.module, lambda *_, **__: angles[0, 0]))
            return self.call_decoder(**kwargs)


@register_policy(Speech2TextForConditionalGeneration)
class Speech2TextPolicy(MediaPolicy):
    """Speech2Text, whose decoder scales the embeddings of tokens, but not those that it gets."""

    def embed(
        self, weights: Int[Tensor, "*rows"] | Float[Tensor, "*rows a"]
    ) -> Float[Tensor, "*rows e"]:
        """Return scaled embeddings of tokens, or of mixtures of tokens."""
        decoder: Any = self.decoder
        return super().embed(weights) * decoder.embed_scale
