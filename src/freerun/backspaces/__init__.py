"""Sequences of actions in which a backspace withdraws the last token.

Cundy, Ermon 2024, *SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling with
Backtracking*, arXiv 2306.05426. An action is a token, eos, or the backspace; the *state* is what
stands after it. A backspace where nothing stands changes nothing: the prompt is never withdrawn.
"""

from freerun.backspaces.noise import Alternatives, AnyToken, Noised, WrongTokens, any_token, noised
from freerun.backspaces.trees import Tree, remaining, tree_of, withdrawn
from freerun.backspaces.usage import Usage, usage

__all__ = [
    "Alternatives",
    "AnyToken",
    "Noised",
    "Tree",
    "Usage",
    "WrongTokens",
    "any_token",
    "noised",
    "remaining",
    "tree_of",
    "usage",
    "withdrawn",
]
