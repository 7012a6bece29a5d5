"""Hugging Face models behind the policy protocol."""

from __future__ import annotations

from typing import Any

from torch import nn

from freerun.models.huggingface.base import HuggingFacePolicy
from freerun.models.huggingface.causal import CausalPolicy
from freerun.models.huggingface.generate import BackspaceOutput, generate_with_backspace
from freerun.models.huggingface.seq2seq import Seq2SeqPolicy
from freerun.vocabulary import Vocabulary


def adapt(
    model: nn.Module, vocabulary: Vocabulary, *, limit: int, shared: bool = True
) -> CausalPolicy | Seq2SeqPolicy:
    """A causal model or an encoder-decoder, or a PeftModel around one, as a policy.

    See `HuggingFacePolicy` for arguments and errors.
    """
    config: Any = model.config
    kind = Seq2SeqPolicy if config.is_encoder_decoder else CausalPolicy
    return kind(model, vocabulary, limit=limit, shared=shared)


__all__ = [
    "BackspaceOutput",
    "CausalPolicy",
    "HuggingFacePolicy",
    "Seq2SeqPolicy",
    "adapt",
    "generate_with_backspace",
]
