"""The registry of policies by class of Hugging Face models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import nn

from freerun.models.huggingface.base import HuggingFacePolicy
from freerun.models.huggingface.causal import CausalPolicy
from freerun.models.huggingface.media import MediaPolicy
from freerun.models.huggingface.seq2seq import Seq2SeqPolicy
from freerun.vocabulary import Vocabulary

PolicyT = TypeVar("PolicyT", bound=HuggingFacePolicy)

_POLICIES: dict[type, type[HuggingFacePolicy]] = {}


def register_policy(model_class: type[nn.Module]) -> Callable[[type[PolicyT]], type[PolicyT]]:
    """Register a policy for a class of models and its subclasses; a class decorator.

    Models need this only if `CausalPolicy` and `Seq2SeqPolicy` refuse them. These support all
    models whose scores are a function of the last hidden state, and which take masks, positions
    and caches in the usual way. If a class is registered again, the last policy is used.

        @register_policy(MyModelForCausalLM)
        class MyPolicy(CausalPolicy):
            def project(self, hidden):
                ...

    Args:
        model_class: a class of Hugging Face models.

    Raises:
        TypeError: if the decorated class is not a subclass of `HuggingFacePolicy`.
    """

    def register(policy_class: Any) -> Any:
        if not (isinstance(policy_class, type) and issubclass(policy_class, HuggingFacePolicy)):
            raise TypeError(
                f"the policy of {model_class.__name__} must be a subclass of CausalPolicy, "
                f"Seq2SeqPolicy or HuggingFacePolicy, not {policy_class!r}"
            )
        _POLICIES[model_class] = policy_class
        return policy_class

    return register


def find_policy_class(model: nn.Module) -> type[HuggingFacePolicy]:
    """Return the policy class that adapts a model.

    That is the one registered for its class or the nearest of its bases, or else `CausalPolicy`,
    `Seq2SeqPolicy` or `MediaPolicy` by its configuration and what its encoder reads.
    """
    inner: Any = model
    if hasattr(model, "get_base_model"):  # a PeftModel: what counts is the model inside
        inner = inner.get_base_model()
    for base in type(inner).__mro__:
        if base in _POLICIES:
            return _POLICIES[base]
    if not inner.config.is_encoder_decoder:
        return CausalPolicy
    return Seq2SeqPolicy if inner.main_input_name == "input_ids" else MediaPolicy


def adapt(
    model: nn.Module,
    vocabulary: Vocabulary,
    *,
    limit: int,
    shared: bool = True,
    prefix: Sequence[int] = (),
) -> HuggingFacePolicy:
    """Return a Hugging Face model, or a PeftModel around one, as a policy, without copying it.

    See `HuggingFacePolicy` for arguments and errors.
    """
    policy_class = find_policy_class(model)
    return policy_class(model, vocabulary, limit=limit, shared=shared, prefix=prefix)
