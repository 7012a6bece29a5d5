"""From the last hidden states of a model to the scores of its actions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel


def scores_of(
    model: PreTrainedModel, hidden: Float[Tensor, "*rows h"], actions: int
) -> Float[Tensor, "*rows a"]:
    """The scores of the first `actions` tokens, as the model's own forward pass computes them.

    Only what is asked for is projected. What models do beside their output layer is named in their
    configuration: scaled hidden states (T5), scaled logits (Cohere, Granite), soft caps (Gemma) and
    constant biases (BART). A model that does anything else is refused when it is adapted.
    """
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "scale_decoder_outputs", False):
        hidden = hidden * config.d_model**-0.5
    scores = model.get_output_embeddings()(hidden)[..., :actions]
    bias = getattr(model, "final_logits_bias", None)
    if bias is not None:
        scores = scores + bias[0, :actions].to(scores.dtype)
    if getattr(config, "logit_scale", None) is not None:
        scores = scores * config.logit_scale
    if getattr(config, "logits_scaling", None) is not None:
        scores = scores / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    if cap is not None:
        scores = torch.tanh(scores / cap) * cap
    return scores
