"""Decoding for any policy: greedy, sampling, beam search, contrastive search, backtracking."""

from freerun.decoding.backtracking import Planting, backtrack, forcing, planting
from freerun.decoding.beam import beam_search
from freerun.decoding.choices import (
    by_blocks,
    evaluation_mode,
    greedy_choice,
    sampled_choice,
    truncated_log_probs,
)
from freerun.decoding.contrastive import contrastive_search
from freerun.decoding.greedy import decode_by, greedy, sample
from freerun.decoding.loop import Decoded
from freerun.decoding.writing import writer_of

__all__ = [
    "Decoded",
    "Planting",
    "backtrack",
    "beam_search",
    "by_blocks",
    "contrastive_search",
    "decode_by",
    "evaluation_mode",
    "forcing",
    "greedy",
    "greedy_choice",
    "planting",
    "sample",
    "sampled_choice",
    "truncated_log_probs",
    "writer_of",
]
