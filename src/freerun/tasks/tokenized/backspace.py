"""The token of a tokenizer that withdraws the one before it."""

from __future__ import annotations

import copy

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from freerun.vocabulary import BACKSPACE


def add_backspace_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer with one more special token, `BACKSPACE`, its `backspace_token`.

    It is saved with the tokenizer, as plain transformers does, and read again; no text is read
    otherwise than before but for one that has the token in it.

    Args:
        tokenizer: the tokenizer; itself is given back where it has a `backspace_token`.

    Raises:
        ValueError: where it has a token of that name for something else.
    """
    if getattr(tokenizer, "backspace_token", None) is not None:
        return tokenizer
    if BACKSPACE in tokenizer.get_vocab():
        raise ValueError(
            f"the tokenizer has a token {BACKSPACE} that is not its backspace_token; if it is, "
            "say so in tokenizer_config.json"
        )
    found = copy.deepcopy(tokenizer)
    found.add_tokens([AddedToken(BACKSPACE, special=True, normalized=False)])
    found.SPECIAL_TOKENS_ATTRIBUTES = [*found.SPECIAL_TOKENS_ATTRIBUTES, "backspace_token"]
    found.backspace_token = BACKSPACE
    return found
