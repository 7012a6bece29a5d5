"""Imports at run time: objects of a user by address, and libraries of optional extras.

An address is `package.module:Name` or `path/to/file.py:Name`.
"""

from __future__ import annotations

import importlib
import importlib.util
import site
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from sysconfig import get_path
from types import ModuleType
from typing import Any, TypeVar

from freerun.errors import DataError
from freerun.settings import SettingError, did_you_mean, list_settings

T = TypeVar("T")

_LIBRARIES = (
    "<",
    str(Path(__file__).parent),
    *map(get_path, ("stdlib", "purelib", "platlib")),
    *site.getsitepackages(),
)
"""The folders of installed libraries, and of this package."""

_FORM = "package.module:Name or path/to/file.py:Name"


def is_address(text: str) -> bool:
    """Return whether `text` has the form of an address: text on both sides of a colon."""
    place, _, name = text.rpartition(":")
    return bool(place) and name.isidentifier()


def make_unknown_error(
    beginning: str, name: str, known: Collection[str], example: str
) -> SettingError:
    """Return the error of a name that is neither known nor an address.

    Args:
        beginning: the beginning of the message, such as "unknown method".
        name: the name.
        known: the known names.
        example: the name of an object in a file of a user, if `name` is only the file.
    """
    hint = f"; name its object, as in {name}:{example}" if name.endswith(".py") else ""
    return SettingError(f"{beginning} {name!r}{hint or did_you_mean(name, known)}")


def import_object(address: str, what: str) -> Any:
    """Import the object at an address.

    Modules are looked for among the installed ones, then in the current folder. A file is imported
    only once.

    Args:
        address: `package.module:Name`, or `path/to/file.py:Name`.
        what: what the object is for, to begin messages with, such as "task".

    Raises:
        SettingError: if the address has another form, there is no such module, file or name, or
            importing it fails.
    """
    place, _, name = address.rpartition(":")
    file = place.endswith(".py")
    if not is_address(address) or not (file or all(map(str.isidentifier, place.split(".")))):
        raise SettingError(f"{what} {address!r}: its address must have the form {_FORM}")
    where = f"{what} {address!r}"
    module = _file(place, where) if file else _module(place, where)
    if not module.__name__.startswith("freerun."):
        _IMPORTED.add(module.__name__)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [known for known in vars(module) if not known.startswith("_")]
        near = did_you_mean(name, public, "check its spelling")
        raise SettingError(f"{where}: there is no {name} in {place}{near}") from None


def import_dataclass(address: str, what: str, base: type[T], required: Collection[str]) -> type[T]:
    """Import a user's class by its address.

    Args:
        address: see `import_object`.
        what: what the class is for, to begin messages with.
        base: the class that it must be a subclass of; it must be a dataclass itself, too.
        required: the attributes that it must have.

    Raises:
        SettingError: if there is none, or it is not such a class.
    """
    found, where = import_object(address, what), f"{what} {address!r}"
    if not isinstance(found, type) or not issubclass(found, base):
        package = ".".join(base.__module__.split(".")[:2])
        raise SettingError(f"{where}: it is not a subclass of {package}.{base.__name__}")
    if "__dataclass_fields__" not in vars(found):
        raise SettingError(f"{where}: it is not a dataclass, whose fields are its settings")
    # An annotation of a ClassVar alone leaves no attribute behind.
    lacking = {*required} - {*dir(found)} | {*getattr(found, "__abstractmethods__", ())}
    if lacking:
        names = ", ".join(sorted(lacking))
        raise SettingError(f"{where}: its class must define {names}")
    try:
        list_settings(found)
    except (NameError, TypeError) as error:
        raise SettingError(f"{where}: its settings cannot be read: {error}") from None
    return found


def get_address(thing: Any) -> str | None:
    """Return the address of a class or function; None if it cannot be imported.

    Objects that are defined in a function, in an interactive session or in a script cannot be
    imported. The path of a file is the one by which it was first imported, which may be relative.
    """
    module, name = sys.modules.get(thing.__module__), thing.__qualname__
    if module is None or thing.__module__ == "__main__":
        return None
    if getattr(module, name, None) is not thing:
        return None
    place = _FILES[module.__name__][1] if module.__name__ in _FILES else module.__name__
    return f"{place}:{name}"


def get_class_name(cls: Any, known: Mapping[str, Any]) -> str:
    """Return the text by which a class with a `name` can be found again: its name or its address.

    A user's class may have the name of a known class and no address, such as a subclass in a script
    that keeps the name of its base. To avoid confusing the two, its text is `module:Class`, by
    which nothing is found.

    Args:
        cls: the class.
        known: the classes that are found by their names.
    """
    name = str(cls.name)
    if known.get(name) is cls:
        return name
    return get_address(cls) or (f"{cls.__module__}:{cls.__qualname__}" if name in known else name)


_IMPORTED: set[str] = set()
"""The names of modules imported by address. They are the user's code, wherever they are."""

_FILES: dict[str, tuple[str, str]] = {}
"""For each module imported from a file, by name: the file, and its path as the user gave it."""


def _file(place: str, where: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        found = "" if Path(place).is_absolute() else f" in {Path.cwd()}"
        raise SettingError(f"{where}: there is no file {place}{found}")
    known = next((name for name, (file, _) in _FILES.items() if file == str(path)), None)
    if known is not None:
        return sys.modules[known]
    # No other module may have the name: dataclasses look theirs up in `sys.modules`.
    name = path.stem
    while name in sys.modules or importlib.util.find_spec(name) is not None:
        name += "_"
    return _load(name, str(path), place, where)


def _load(name: str, path: str, place: str, where: str) -> ModuleType:
    loader = SourceFileLoader(name, path)
    spec = ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _one_line_errors(where, place):
            loader.exec_module(module)
    except SettingError:
        del sys.modules[name]
        raise
    _FILES[name] = path, place
    return module


@dataclass(frozen=True)
class Imported:
    """What was imported by address, for another process to import under the same names.

    Attributes:
        files: for each needed module from a file, by name, the file and its path as the user gave
            it.
        modules: the names of all modules.
    """

    files: dict[str, tuple[str, str]]
    modules: set[str]

    @classmethod
    def collect(cls, texts: Collection[str]) -> Imported:
        """Collect what this process has imported, of files only those that are needed.

        Other files of a session may have nothing to do with the work, and may contradict its own.

        Args:
            texts: all texts of what needs them: names of modules, and addresses.
        """
        files = {
            name: (path, place)
            for name, (path, place) in _FILES.items()
            if name in texts or any(text.startswith(f"{place}:") for text in texts)
        }
        return cls(files, set(_IMPORTED))

    def restore(self) -> None:
        """Import the files in this process, unless they are.

        Raises:
            SettingError: if importing one fails.
        """
        _IMPORTED.update(self.modules)
        for name, (path, place) in self.files.items():
            if name not in _FILES:
                _load(name, path, place, f"{place!r}")


def _module(place: str, where: str) -> ModuleType:
    # The script `freerun` does not look in the current folder, as `python -m freerun` does.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    with _one_line_errors(where, place):
        return importlib.import_module(place)


@contextmanager
def _one_line_errors(where: str, place: str) -> Iterator[None]:
    """Convert any exception that a module raises on import to an error of one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if f"{place}.".startswith(f"{missing}."):
            reason = f"there is no module {missing}, neither installed nor in {Path.cwd()}"
        else:
            reason = f"{place} needs the module {missing}, which is not installed"
        raise SettingError(f"{where}: {reason}") from None
    except SyntaxError as error:
        raise SettingError(f"{where}: {error.filename}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise SettingError(f"{where}: {locate_error(error) or repr(error)}") from None


def locate_error(error: Exception) -> str | None:
    """Return where in a user's own code an exception was raised, and what it says, in one line.

    The mistake is in the user's file, even if a library such as dataclasses raises the exception.

    Returns:
        The innermost file and line of the user's code, and the exception; None if none of its
        frames is in a user's code.
    """
    files = {getattr(sys.modules.get(name), "__file__", None) for name in _IMPORTED}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in files or not frame.filename.startswith(_LIBRARIES):
            said = " ".join(str(error).split())
            what = f"{type(error).__name__}: {said}" if said else type(error).__name__
            return f"{frame.filename}, line {frame.lineno}: {what:.500}"
    return None


class MissingExtraError(DataError, ImportError):
    """Raised if an optional library is not installed. The message says how to install it."""


def import_extra(module: str, name: str, purpose: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        module: the module to import.
        name: the extra of freerun that installs it.
        purpose: what needs it, to begin the message with.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        library = module.partition(".")[0]
        message = f"{purpose} needs {library}, which is missing: pip install 'freerun[{name}]'"
        raise MissingExtraError(message) from None
