"""Running a policy: roll-in and roll-out for training, decoding for use."""

from freerun.rolling.backtrack import backtrack
from freerun.rolling.beam import beam_search
from freerun.rolling.blocks import by_blocks
from freerun.rolling.choices import (
    greedy_choice,
    sampled_choice,
    truncated_log_probs,
)
from freerun.rolling.contrastive import contrastive_search
from freerun.rolling.decode import Decoded, decode_by, greedy, sample
from freerun.rolling.modes import evaluation_mode
from freerun.rolling.own import Few
from freerun.rolling.passes import check_passes
from freerun.rolling.planted import Planting, forcing, planting
from freerun.rolling.roll_in import learned, mixed, relaxed
from freerun.rolling.roll_out import Outputs, Trials, complete, roll_out
from freerun.rolling.trajectories import (
    Trajectories,
    learned_trajectories,
    mixed_trajectories,
    reference_trajectories,
)
from freerun.rolling.writing import writer_of

__all__ = [
    "Decoded",
    "Few",
    "Outputs",
    "Planting",
    "Trajectories",
    "Trials",
    "backtrack",
    "beam_search",
    "by_blocks",
    "check_passes",
    "complete",
    "contrastive_search",
    "decode_by",
    "evaluation_mode",
    "forcing",
    "greedy",
    "greedy_choice",
    "learned",
    "learned_trajectories",
    "mixed",
    "mixed_trajectories",
    "planting",
    "reference_trajectories",
    "relaxed",
    "roll_out",
    "sample",
    "sampled_choice",
    "truncated_log_probs",
    "writer_of",
]
