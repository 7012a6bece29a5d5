"""Adding a backspace, the action that withdraws the last token, to models that lack one."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedTokenizerBase

from freerun.data import Codec, TextCodec, add_backspace_token
from freerun.models.adapters import find_base_model, renew_adapters
from freerun.models.huggingface.embeddings import add_backspace_row, count_embeddings
from freerun.policy import Policy
from freerun.vocabulary import Vocabulary

PolicyT = TypeVar("PolicyT", bound=Policy)


def add_backspace(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Add a backspace to a Hugging Face model and its tokenizer.

    It is a special token, the tokenizer's `backspace_token`; transformers saves and loads both as
    usual. Its embedding and its row of the output layer are the means of those of all other tokens,
    so that its probability is at most 1 divided by their number in every state. Other scores do not
    change.

    Cundy and Ermon 2024, arXiv 2306.05426, section 4.

    Args:
        model: a causal model or an encoder-decoder, which is changed in place; or a PeftModel,
            whose adapters are added to the changed model again, and also train the new rows.
        tokenizer: its tokenizer, which is not changed.

    Returns:
        The model, and a copy of the tokenizer; both as given if they have a backspace.

    Raises:
        ValueError: if the tokenizer uses a token of that name for something else, or the model
            cannot have one; the message says why.
    """
    found = add_backspace_token(tokenizer)
    if found is tokenizer and count_embeddings(find_base_model(model)) > found.backspace_token_id:
        return model, tokenizer
    return extend_model(model, TextCodec(found).target, shared=True), found


def with_backspace(policy: PolicyT, codec: Codec | None = None) -> PolicyT:
    """Add a backspace to a policy in place, and return it.

    The rows of the new action are the means of those of all others (see `add_backspace`).

    Args:
        policy: a policy that can have one (see `Policy.add_backspace`). One that has a backspace
            is returned as it is.
        codec: the tokens and the limit of the policy; by default the policy's own vocabulary with
            one more action.

    Raises:
        ValueError: if outputs have no eos, the codec has other tokens than the policy, or a policy
            of this class cannot have one.
    """
    old = policy.vocabulary
    if old.backspace is not None:
        return policy
    new = old.with_backspace() if codec is None else codec.with_backspace().target
    # A tokenizer may have a free id for the new token, before the end of the vocabulary.
    if _list_symbols(new) != _list_symbols(old, without=new.backspace):
        raise ValueError("the codec has other tokens than the policy")
    policy.add_backspace(new, None if codec is None else codec.limit)
    return policy


def extend_model(model: Any, vocabulary: Vocabulary, *, shared: bool) -> Any:
    """Add the rows of the backspace of a vocabulary to a Hugging Face model, and return it.

    Args:
        model: the model, which is changed in place, or a PeftModel.
        vocabulary: the tokens that the model writes.
        shared: whether sources use the tokens of targets.

    Raises:
        ValueError: if the model cannot have them; the message says why.
    """
    add = partial(add_backspace_row, vocabulary=vocabulary, shared=shared)
    if find_base_model(model) is not model:
        return renew_adapters(model, vocabulary.backspace or 0, add)
    add(model)
    return model


def _list_symbols(vocabulary: Vocabulary, without: int | None = None) -> list[str]:
    """Return the symbols of all actions but one, by default the backspace."""
    without = vocabulary.backspace if without is None else without
    return [symbol for i, symbol in enumerate(vocabulary.symbols) if i != without]
