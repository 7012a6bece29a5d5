"""Text in the tokens of a tokenizer: prompts and completions."""

from freerun.data.text.bounds import Truncation
from freerun.data.text.codec import TextCodec, add_backspace_token
from freerun.data.text.columns import KINDS, Pair
from freerun.data.text.examples import TextCollator, TextExamples, data_of, tokenized

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
