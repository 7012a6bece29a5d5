"""Sequence models as policies: the recurrent encoder-decoder and Hugging Face models."""

from freerun.models.huggingface import (
    CausalPolicy,
    HuggingFacePolicy,
    Seq2SeqPolicy,
    adapt,
    register_policy,
)
from freerun.models.recurrent import RecurrentConfig, RecurrentPolicy

__all__ = [
    "CausalPolicy",
    "HuggingFacePolicy",
    "RecurrentConfig",
    "RecurrentPolicy",
    "Seq2SeqPolicy",
    "adapt",
    "register_policy",
]
