"""Decoding for any policy: greedy, sampling, beam search, contrastive search, backtracking."""

from freerun.decoding.backtracking import NoisySampler, backtrack, force_actions
from freerun.decoding.beam import Hypothesis, beam_search, beam_search_n_best
from freerun.decoding.contrastive import contrastive_search
from freerun.decoding.decode import decode_with, greedy, sample
from freerun.decoding.loop import CellChooser, Decoded, run_writer
from freerun.decoding.sampling import (
    Sampler,
    apply_in_blocks,
    argmax_tokens,
    check_truncation,
    choose_greedily,
    make_sampler,
    promote_scores,
    sample_tokens,
    truncated_log_probs,
)

__all__ = [
    "CellChooser",
    "Decoded",
    "Hypothesis",
    "NoisySampler",
    "Sampler",
    "apply_in_blocks",
    "argmax_tokens",
    "backtrack",
    "beam_search",
    "beam_search_n_best",
    "check_truncation",
    "choose_greedily",
    "contrastive_search",
    "decode_with",
    "force_actions",
    "greedy",
    "make_sampler",
    "promote_scores",
    "run_writer",
    "sample",
    "sample_tokens",
    "truncated_log_probs",
]
