"""Sequence models behind the policy protocol."""

from freerun.policies.huggingface import CausalPolicy, Seq2SeqPolicy, adapt
from freerun.policies.recurrent import RecurrentConfig, RecurrentPolicy

__all__ = ["CausalPolicy", "RecurrentConfig", "RecurrentPolicy", "Seq2SeqPolicy", "adapt"]
