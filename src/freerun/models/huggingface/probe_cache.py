"""Probes that passed, on disk, so that a model of the same kind need not be probed again.

The name of a file is a digest of everything that a probe depends on: the configuration, the code
that is run, versions, device, and the shape, dtype and kind of every weight. A file contains the
same digest, and nothing that is read is used in any other way. A probe that failed is not stored.

A probe establishes that a model is *run* in the right way: that no position, mask or slot of a
cache is misplaced. This depends on the weights in three ways, so such models are probed every time,
or apart: scores that are not finite are never right; a table of positions whose values are all
equal, as in a model that is not yet trained, would hide that the wrong one is looked up; and the
weights of a router decide which experts a token reaches, and so which capacity is exceeded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn

from freerun.files import write

if TYPE_CHECKING:
    from freerun.models.huggingface.base import HuggingFacePolicy

CACHE_VARIABLE = "FREERUN_CACHE"
"""The environment variable that names the folder of what freerun remembers between runs."""
OFF = "off"
"""The value of CACHE_VARIABLE with which nothing is remembered."""

_ATTENTIONS = {"eager", "sdpa", "flex_attention", None}
"""Implementations of attention whose code belongs to torch or transformers."""
_LOCAL = {"_name_or_path", "base_model_name_or_path", "revision"}
"""Fields of configurations that say where a model comes from."""
_ROUTERS = ("expert", "router")
"""Parts of the names of settings of models with routers."""


def find_cache() -> Path | None:
    """Return the folder of what freerun remembers between runs; None if nothing is.

    This is `FREERUN_CACHE`, or the folder `freerun` in `XDG_CACHE_HOME` or `~/.cache`.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return None if named == OFF else Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "freerun")
    except RuntimeError:  # this user has no home
        return None


class PassedProbe:
    """Whether a probe of a model was passed before.

    Args:
        policy: the model.
        probe: the name of the probe.
    """

    def __init__(self, policy: HuggingFacePolicy, probe: str) -> None:
        folder = find_cache()
        self._text = "" if folder is None else _compute_digest(policy, probe)
        self._path = Path(folder, "probes", self._text) if folder and self._text else None

    def is_stored(self) -> bool:
        """Return whether it was; a file with other contents does not count."""
        if self._path is None or not self._path.is_file():
            return False
        try:
            with self._path.open("rb") as file:
                return file.read(len(self._text) + 2) == f"{self._text}\n".encode()
        except OSError:
            return False

    def store(self) -> None:
        """Store that it was passed, if this is possible."""
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write(self._path, f"{self._text}\n")


def _compute_digest(policy: HuggingFacePolicy, probe: str) -> str:
    """Return a digest of everything that a probe depends on; empty if this is not known."""
    if any(_is_changed(module) for module in policy.modules()):
        return ""
    model, device = policy.inner, policy.device
    configs = {
        name or "model": part.config
        for name, part in model.named_modules()
        if isinstance(part, transformers.PreTrainedModel)
    }
    attentions = {name: config._attn_implementation for name, config in configs.items()}
    settings = model.config.to_dict()
    if not _ATTENTIONS.issuperset(attentions.values()) or _has_router(settings):
        return ""
    sources, weights = _digest_sources(policy), _describe_weights(policy)
    if sources is None or weights is None:
        return ""
    adapters: Any = getattr(policy.model, "peft_config", {})  # only a PeftModel has it
    words = policy.vocabulary
    found = {
        "probe": probe,
        "versions": [sys.version, version("freerun"), torch.__version__, transformers.__version__],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": torch.get_float32_matmul_precision(),
        "autocast": torch.is_autocast_enabled(device.type),
        "config": settings,
        "attention": attentions,
        "adapters": {name: dataclasses.asdict(config) for name, config in adapters.items()},
        "vocabulary": [words.actions, words.bos, words.pad, words.eos, words.backspace],
        "rows": [policy.shared, policy.prefix],
        "modules": {name: f"{type(m)}" for name, m in policy.named_modules()},
        "checkpointing": not policy.uses_cache,
        "sources": sources,
        "weights": weights,
    }
    text = json.dumps(_drop_local(found), sort_keys=True, default=_order)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_changed(module: nn.Module) -> bool:
    """Return whether a module runs code that is not of its class."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _has_router(settings: object) -> bool:
    """Return whether a configuration, or a part of it, has settings of a router."""
    if not isinstance(settings, dict):
        return False
    named = any(sign in str(name) for name in settings for sign in _ROUTERS)
    return named or any(_has_router(inner) for inner in settings.values())


def _drop_local(value: object) -> Any:
    """Return settings without those that say where a model comes from."""
    if isinstance(value, dict):
        return {str(k): _drop_local(inner) for k, inner in value.items() if k not in _LOCAL}
    return value


def _order(value: object) -> Any:
    """Return a value that JSON lacks as one that it has; sets have no order of their own."""
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _describe_weights(policy: HuggingFacePolicy) -> list[tuple[str, str, bool]] | None:
    """Return name, type and whether all values are equal, of all weights; None if not finite."""
    found = []
    for name, weight in [*policy.named_parameters(), *policy.named_buffers()]:
        if type(weight) not in (nn.Parameter, Tensor) or weight.is_complex():
            return None  # such as quantized or sharded weights
        kind = f"{weight.dtype} {tuple(weight.shape)}"
        values = weight.detach()
        values = values.byte() if weight.dtype == torch.bool else values
        bounds = {float(bound) for bound in values.aminmax()} if weight.numel() else {0.0}
        if not all(map(math.isfinite, bounds)):  # NaN is a bound of what contains it
            return None
        found.append((name, kind, len(bounds) == 1))
    return found


def _digest_sources(policy: HuggingFacePolicy) -> list[str] | None:
    """Return the digests of the files that contain the code of a policy; None if one has no file.

    These are the files of the classes of all modules, of the functions that they and their modules
    refer to, and of this package. So they include replaced functions, and custom code.
    """
    classes = {kind for module in policy.modules() for kind in type(module).__mro__[:-1]}
    paths = {str(path) for path in Path(__file__).parent.glob("*.py")}
    spaces: list[type | ModuleType] = list(classes)
    for name in {kind.__module__ for kind in classes}:
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None)  # of abc, which is frozen, from 3.11 on
        if module is None or path is None:
            return None
        spaces.append(module)
        paths.add(path)
    for space in spaces:
        paths.update(_find_code(space))
    digests = {_digest_file(path, _get_time(path)) for path in paths}
    return None if None in digests else sorted(map(str, digests))


def _find_code(space: type | ModuleType) -> Iterator[str]:
    """Yield the files of the functions of a class or module."""
    for value in vars(space).values():
        value = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
        name = value.__code__.co_filename if isinstance(value, FunctionType) else "<string>"
        # Dataclasses compile a string; some modules of Python itself are frozen.
        if name != "<string>" and not name.startswith("<frozen "):
            yield name


def _get_time(path: str) -> tuple[int, int] | None:
    """Return the time and the size of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4096)
def _digest_file(path: str, time: tuple[int, int] | None) -> str | None:
    """Return the digest of a file of this time and size; None if it cannot be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None
