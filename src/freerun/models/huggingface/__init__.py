"""Hugging Face models as policies."""

from freerun.models.huggingface.base import HuggingFacePolicy
from freerun.models.huggingface.causal import CausalPolicy
from freerun.models.huggingface.generate import BackspaceOutput, generate_with_backspace
from freerun.models.huggingface.media import MediaPolicy
from freerun.models.huggingface.registry import adapt, find_policy_class, register_policy
from freerun.models.huggingface.seq2seq import Seq2SeqPolicy
from freerun.models.huggingface.special import (
    LEDPolicy,
    PegasusXPolicy,
    RoFormerPolicy,
    Speech2TextPolicy,
)

__all__ = [
    "BackspaceOutput",
    "CausalPolicy",
    "HuggingFacePolicy",
    "LEDPolicy",
    "MediaPolicy",
    "PegasusXPolicy",
    "RoFormerPolicy",
    "Seq2SeqPolicy",
    "Speech2TextPolicy",
    "adapt",
    "find_policy_class",
    "generate_with_backspace",
    "register_policy",
]
