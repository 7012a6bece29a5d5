"""Sequences of actions in which a backspace withdraws the last token.

Cundy, Ermon 2024, *SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling with
Backtracking*, arXiv 2306.05426. An action is a token, eos, or the backspace; the *state* is what
stands after it. A backspace where nothing stands changes nothing: the prompt is never withdrawn.
"""

from freerun.backspaces.noise import Noised, noised
from freerun.backspaces.remains import remaining, withdrawn
from freerun.backspaces.tree import Tree, tree_of
from freerun.backspaces.usage import Usage, usage
from freerun.backspaces.wrong_tokens import Alternatives, AnyToken, WrongTokens, any_token

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
