"""Sequences of actions in which a backspace withdraws the last token.

Cundy, Ermon 2024, *SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling with
Backtracking*, arXiv 2306.05426. An action is a token, eos, or the backspace; the *state* is what
remains after it. A backspace where nothing remains changes nothing: the prompt is never withdrawn.
"""

from freerun.backspaces.noise import Alternatives, AnyToken, NoisyTargets, WrongTokens, insert_noise
from freerun.backspaces.trees import Tree, apply_backspaces, build_tree, mark_withdrawn
from freerun.backspaces.usage import Usage, count_usage

__all__ = [
    "Alternatives",
    "AnyToken",
    "NoisyTargets",
    "Tree",
    "Usage",
    "WrongTokens",
    "apply_backspaces",
    "build_tree",
    "count_usage",
    "insert_noise",
    "mark_withdrawn",
]
