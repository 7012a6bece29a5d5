"""New adapters for a model."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from freerun.policies.adapters import training_rows
from freerun.policies.loading import unwarned
from freerun.tasks.extras import extra

SCALE = 2
"""What adapters add is scaled by: alpha is twice the rank."""


def with_lora(model: PreTrainedModel, rank: int, token: int | None = None) -> nn.Module:
    """The model, its weights frozen, with LoRA in all linear layers but the last.

    Hu et al. 2021 (arXiv 2106.09685): W x becomes W x + 2 B A x, where A and B have `rank` rows and
    columns. A is drawn from torch's RNG, and B is zero, so that nothing changes at first.

    Args:
        model: the model.
        rank: of the adapters.
        token: a new token, whose rows are trained, too.

    Raises:
        MissingExtraError: where peft is not installed.
        ValueError: where rows of the new token cannot be trained.
    """
    peft = extra("peft", "lora", "lora")
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        r=rank,
        lora_alpha=SCALE * rank,
        target_modules="all-linear",
        # GPT-2 keeps its matrices the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    if token is not None:
        config = training_rows(config, model, token)
    with unwarned():
        return peft.get_peft_model(model, config)
