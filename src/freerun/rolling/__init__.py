"""Running a policy: roll-in for training, decoding for use."""

from freerun.rolling.beam import beam_search
from freerun.rolling.choices import greedy_choice, sampled_choice, truncated_log_probs
from freerun.rolling.decode import Decoded, greedy, sample
from freerun.rolling.modes import evaluation_mode
from freerun.rolling.roll_in import Few, learned, mixed, relaxed

__all__ = [
    "Decoded",
    "Few",
    "beam_search",
    "evaluation_mode",
    "greedy",
    "greedy_choice",
    "learned",
    "mixed",
    "relaxed",
    "sample",
    "sampled_choice",
    "truncated_log_probs",
]
