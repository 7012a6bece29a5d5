"""Losses: pure functions of scores and targets, usable in anyone's own loop."""

from freerun.losses.log_loss import log_loss

__all__ = ["log_loss"]
