"""Sequence models as policies: the recurrent encoder-decoder and Hugging Face models."""

from freerun.models.huggingface import CausalPolicy, Seq2SeqPolicy, adapt
from freerun.models.recurrent import RecurrentConfig, RecurrentPolicy

__all__ = ["CausalPolicy", "RecurrentConfig", "RecurrentPolicy", "Seq2SeqPolicy", "adapt"]
