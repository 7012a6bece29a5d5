"""SequenceMatch: generation as imitation learning."""

from freerun.methods.sequence_match.sequence_match import SequenceMatch

__all__ = ["SequenceMatch"]
