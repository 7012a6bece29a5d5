"""Sequence models behind the policy protocol."""

from freerun.policies.recurrent import RecurrentConfig, RecurrentPolicy

__all__ = ["RecurrentConfig", "RecurrentPolicy"]
