"""Dropout and layer drop of Hugging Face models, found where they happen, not by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig

_DROPOUTS = (
    torch.dropout,
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
)


class WithoutDropout(TorchFunctionMode):
    """Disable dropout and all other randomness inside the block.

    Uniform numbers (the jitter of routers) are the middle of their range, and `torch.rand` returns
    0, so that a layer that may be dropped is dropped.

    Attributes:
        seen: the probabilities of dropout in training mode that were used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch without its randomness."""
        given = dict(kwargs or {})
        if func in _DROPOUTS:
            values = dict(zip(("input", "p", "training"), args, strict=False)) | given
            training = values.get("training", values.get("train", True))
            if training:
                self.seen.append(float(values.get("p", 0.5)))
            return values["input"]
        if func is F.scaled_dot_product_attention:
            # query, key, value, attn_mask, dropout_p
            self.seen.append(float(args[4] if len(args) > 4 else given.get("dropout_p", 0.0)))
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                given["dropout_p"] = 0.0
        elif func is torch.rand:
            func = torch.zeros
            given.pop("generator", None)
        elif func is torch.Tensor.uniform_:
            low, high = (*args[1:], *([0.0, 1.0][len(args) - 1 :]))[:2]
            middle = (given.get("from", low) + given.get("to", high)) / 2
            return args[0].fill_(middle)
        return func(*args, **given)


def set_dropout(config: PreTrainedConfig, probability: float) -> None:
    """Set all probabilities of dropout in a configuration."""
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            set_dropout(value, probability)
        elif _is_dropout(name, value):
            # Some are declared as integers; `set_module_dropout` sets those of modules.
            with suppress(StrictDataclassError):
                setattr(config, name, probability)


def set_module_dropout(model: nn.Module, probability: float) -> None:
    """Set all probabilities of dropout in modules, as some do not come from a setting."""
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = probability
        for name, value in vars(module).items():
            if _is_dropout(name, value):
                setattr(module, name, probability)


def _is_dropout(name: str, value: object) -> bool:
    """Return whether a value is a probability of dropout, and not of dropping whole layers."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and "drop" in name and "layerdrop" not in name.replace("_", "")


def switch_off_layer_drop(model: nn.Module) -> bool:
    """Disable dropping of whole layers; return whether it was enabled.

    A dropped layer has no keys and values of the tokens that it did not read, so a row could not be
    continued.
    """
    found = False
    for module in model.modules():
        # All architectures use this name.
        if getattr(module, "layerdrop", 0):
            vars(module)["layerdrop"] = 0.0
            found = True
    return found


@contextmanager
def training_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into training mode inside the block, and restore every submodule's mode."""
    resting = [part for part in module.modules() if not part.training]
    for part in resting:
        part.training = True
    try:
        yield
    finally:
        for part in resting:
            part.training = False
