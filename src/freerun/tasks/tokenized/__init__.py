"""Tasks of text in the tokens of a tokenizer: prompts and completions."""

from __future__ import annotations

from freerun.tasks.tokenized.backspace import add_backspace_token
from freerun.tasks.tokenized.bounds import Truncation
from freerun.tasks.tokenized.codec import TextCodec
from freerun.tasks.tokenized.collator import TextCollator
from freerun.tasks.tokenized.columns import KINDS, Pair
from freerun.tasks.tokenized.data import data_of, tokenized
from freerun.tasks.tokenized.examples import TextExamples

__all__ = [
    "KINDS",
    "Pair",
    "TextCodec",
    "TextCollator",
    "TextExamples",
    "Truncation",
    "add_backspace_token",
    "data_of",
    "tokenized",
]
