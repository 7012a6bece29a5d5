"""From the last hidden states of a model to the scores of its actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Head:
    """What a model does beside its output layer, as its configuration names it.

    A model that does anything else is refused when it is adapted.

    Attributes:
        shrink: multiplies hidden states (T5).
        scale: multiplies scores (Cohere).
        divisor: divides them (Granite).
        cap: bounds them, softly (Gemma).
    """

    shrink: float | None
    scale: float | None
    divisor: float | None
    cap: float | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Head:
        """That of a model."""
        config = model.config.get_text_config(decoder=True)
        return cls(
            config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", False) else None,
            getattr(config, "logit_scale", None),
            getattr(config, "logits_scaling", None),
            getattr(config, "final_logit_softcapping", None),
        )

    def scores(
        self, model: PreTrainedModel, hidden: Float[Tensor, "*rows h"], actions: int
    ) -> Float[Tensor, "*rows a"]:
        """The scores of the first `actions` tokens, as the model's own forward pass computes them.

        Only what is asked for is projected.
        """
        if self.shrink is not None:
            hidden = hidden * self.shrink
        scores = model.get_output_embeddings()(hidden)[..., :actions]
        bias = getattr(model, "final_logits_bias", None)  # a constant of BART
        if bias is not None:
            scores = scores + bias[0, :actions].to(scores.dtype)
        if self.scale is not None:
            scores = scores * self.scale
        if self.divisor is not None:
            scores = scores / self.divisor
        if self.cap is not None:
            scores = torch.tanh(scores / self.cap) * self.cap
        return scores
