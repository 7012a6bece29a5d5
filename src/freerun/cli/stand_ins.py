"""Stand-ins for large libraries, for commands that only read settings and docstrings.

`freerun train TASK --help` shows the fields of dataclasses whose modules import torch and
transformers, which takes seconds. Where these libraries are not used, stand-ins take their place,
as in Sphinx (`autodoc_mock_imports`): modules in which every name is an empty class.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Union

LIBRARIES = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "jaxtyping",
    "numpy",
    "peft",
    "sacrebleu",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)


class _StandInType(ABCMeta):
    """The type of the classes that stand in for the members of a library."""

    def __getattr__(cls, name: str) -> type:
        return _make_class(name)

    def __call__(cls, *args: object, **options: object) -> object:
        # A decorator returns what it decorates.
        return args[0] if len(args) == 1 and callable(args[0]) else cls

    def __getitem__(cls, key: object) -> type:
        return cls

    def __or__(cls, other: object) -> Any:
        # With a class, a real union: the settings of a method are described by their types.
        return Union[cls, other] if isinstance(other, type) else cls  # noqa: UP007

    __ror__ = __or__

    def __iter__(cls) -> Iterator[object]:
        return iter(())


def _make_class(name: str) -> type:
    """Return an empty class; names between double underscores are Python's own protocols."""
    if name.startswith("__"):
        raise AttributeError(name)
    return _StandInType(name, (), {})


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> type:
        return _make_class(name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        library = fullname.partition(".")[0] in LIBRARIES
        return ModuleSpec(fullname, self, is_package=True) if library else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class NeedsLibrariesError(RuntimeError):
    """Raised if a command needs the libraries themselves."""


def are_replaced() -> bool:
    """Return whether the libraries are replaced by stand-ins."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


@contextmanager
def replace_libraries() -> Iterator[None]:
    """Replace the libraries inside the block; modules imported in it are removed afterwards."""
    finder, before = _Finder(), set(sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            package, _, module = name.rpartition(".")
            if name.partition(".")[0] in (*LIBRARIES, "freerun"):
                del sys.modules[name]
                if package in before:
                    delattr(sys.modules[package], module)
