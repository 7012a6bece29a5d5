"""The settings of a command: read from flags and YAML, and described by its help."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from freerun.cli.config import read_config
from freerun.cli.formatter import HelpFormatter, described, metavar, plain
from freerun.settings import (
    MISSING,
    Setting,
    SettingError,
    build,
    convert,
    did_you_mean,
    list_settings,
)

T = TypeVar("T")


class UsageError(ValueError):
    """A command line that cannot be understood."""


@dataclass(frozen=True)
class Option:
    """A setting as it is given to a command.

    Attributes:
        name: what it is called: `model.cell` is `--model.cell`, or `cell` under `model` in YAML.
        setting: the field.
        owner: the dataclass that the field belongs to.
        title: the heading it stands under in the help.
        positional: whether it is given by its place instead of a flag.
    """

    name: str
    setting: Setting
    owner: type
    title: str
    positional: bool

    @property
    def shown(self) -> str:
        """What it is called on the command line."""
        return self.name.upper() if self.positional else f"--{self.name}"

    @property
    def switch(self) -> bool:
        """Whether to name it is to set it."""
        return self.setting.kind is bool and "." not in self.name

    @property
    def form(self) -> dict[str, Any]:
        """How it is given, as argparse has it."""
        if self.switch:
            return {"action": "store_const", "const": "true"}
        if self.positional:
            return {"nargs": "?", "metavar": self.shown}
        several = "+" if is_free(self.setting.kind) else None
        return {"nargs": several, "metavar": metavar(self.name, self.setting.kind)}


class Options:
    """The options of a command, which are fields of dataclasses.

    Args:
        command: the whole command, such as `freerun train ocr`.
        usage: what follows it, in short.
        summary: what it does.
        epilog: what else to know, after the options.

    Attributes:
        options: the options by name.
        given: the values of those that have one.
        places: where a user set them, for messages: a flag, or a line of YAML.
        elsewhere: of settings that cannot be given here but elsewhere, what to say.
    """

    def __init__(self, command: str, usage: str, summary: str, epilog: str = "") -> None:
        self.command, self.usage, self.summary, self.epilog = command, usage, summary, epilog
        self.options: dict[str, Option] = {}
        self.given: dict[str, Any] = {}
        self.places: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}

    def add(
        self,
        cls: type,
        title: str,
        *,
        prefix: str = "",
        only: Collection[str] | None = None,
        skip: Collection[str] = (),
        positional: Collection[str] = (),
        values: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the fields of a dataclass.

        Args:
            cls: the dataclass; its docstring describes the fields.
            title: the heading of the options in the help.
            prefix: what their names begin with.
            only: the fields to add; left out, all.
            skip: fields not to add.
            positional: fields that are given by their place instead of a flag.
            values: what fields are where neither YAML nor a flag sets them.
        """
        for field in list_settings(cls).values():
            if field.name in skip or (only is not None and field.name not in only):
                continue
            name = prefix + field.name
            if values is not None and field.name in values:
                self.given[name] = values[field.name]
            placed = field.name in positional
            self.options[name] = Option(name, field, cls, title, placed)

    def parse(self, arguments: list[str]) -> None:
        """Read flags, and the YAML file that `--config` names; flags win.

        Dashes in the name of a flag are as good as underscores.

        Prints the help and exits where it is asked for.

        Raises:
            UsageError: where the command line is not understood.
            SettingError: where a setting is unknown, or a value is wrong.
            DataError: where the YAML file cannot be read.
        """
        known = self._flags()
        arguments = [underscored(word, known) for word in arguments]
        found, rest = self._parser().parse_known_args(arguments)
        see = f"see {self.command} --help"
        for argument in rest:
            if argument.startswith("-"):
                flag = argument.partition("=")[0]
                if flag[2:] in self.elsewhere:
                    raise SettingError(f"{flag} {self.elsewhere[flag[2:]]}")
                nearest = did_you_mean(flag, known, see)
                raise SettingError(f"unknown option {flag}{nearest}")
            raise UsageError(f"{argument!r} is not expected here; {see}")
        flags = {name: value for name, value in vars(found).items() if value is not None}
        if "config" in flags:
            self._read_yaml(flags["config"])
        for name, value in flags.items():
            self._set(name, value, self.options[name].shown)

    def build(self, cls: type[T], where: str, **settled: Any) -> T:
        """The dataclass of what was given.

        Args:
            cls: the dataclass.
            where: what to call it in messages.
            settled: the values of fields that are no options.

        Raises:
            SettingError: where a setting is missing or out of range.
        """
        own = [option for option in self.options.values() if option.owner is cls]
        for option in own:
            if option.setting.default is MISSING and option.name not in self.given:
                summary = plain(option.setting.summary).rstrip(".")
                raise SettingError(f"{option.shown} is missing: {summary}")
        given = {o.setting.name: self.given[o.name] for o in own if o.name in self.given}
        return build(cls, {**settled, **given}, where)

    def _read_yaml(self, path: str) -> None:
        """Take the settings of a YAML file."""
        groups = {name.partition(".")[0] for name in self.options if "." in name}
        kinds = groups & self.options.keys()
        known = [o.name for o in self.options.values() if not o.positional and o.name != "config"]
        for name, (value, line) in read_config(path, groups, kinds).items():
            where = f"{path}, line {line}"
            if name in self.elsewhere:
                raise SettingError(f"{where}: {name} {self.elsewhere[name]}")
            if name not in known:
                nearest = did_you_mean(name, known, f"see {self.command} --help")
                raise SettingError(f"{where}: unknown setting {name!r}{nearest}")
            self._set(name, value, f"{where}: {name}")

    def _set(self, name: str, value: Any, shown: str) -> None:
        kind = self.options[name].setting.kind
        self.places[name] = shown
        self.given[name] = value if is_free(kind) else convert(value, kind, shown)

    def _flags(self) -> list[str]:
        return [option.shown for option in self.options.values() if not option.positional]

    def _parser(self) -> argparse.ArgumentParser:
        """The parser, which keeps all values as they are written."""
        parser = _Parser(
            prog=self.command,
            usage=f"{self.command} {self.usage}",
            description=self.summary,
            epilog=self.epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        groups: dict[str, Any] = {}
        for option in self.options.values():
            if option.title not in groups:
                groups[option.title] = parser.add_argument_group(option.title)
            setting = option.setting
            value = self.given.get(option.name, setting.default)
            name = option.name if option.positional else option.shown
            help_text = described(setting, value, switch=option.switch)
            groups[option.title].add_argument(name, help=help_text, **option.form)
        first = next(iter(groups.values()))
        first.add_argument("-h", "--help", action="help", help="show this help, and exit")
        return parser


def peek(arguments: list[str], *names: str) -> dict[str, Any]:
    """What some options are set to, by flags or YAML, before all options are known.

    Args:
        arguments: the words of the command.
        names: the options, which take one value each.

    Raises:
        UsageError: where a flag has no value.
        DataError: where the YAML file cannot be read.
    """
    parser = _Parser(allow_abbrev=False, add_help=False)
    for name in ("config", *names):
        parser.add_argument(f"--{name}")
    given, _ = parser.parse_known_args(arguments)
    found = {}
    if given.config is not None:
        found = {
            name: value for name, (value, _) in read_config(given.config, names, names).items()
        }
    found |= {name: value for name, value in vars(given).items() if value is not None}
    return {name: value for name, value in found.items() if name in names}


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are raised instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def underscored(word: str, flags: Collection[str]) -> str:
    """A flag with underscores where it was written with dashes; other words as they are."""
    flag, equals, value = word.partition("=")
    named = f"--{flag[2:].replace('-', '_')}"
    return named + equals + value if flag.startswith("--") and named in flags else word


def is_free(kind: Any) -> bool:
    """Whether a field takes whatever YAML has, or several values on the command line."""
    return kind is Any or typing.get_origin(kind) in (list, dict) or Any in typing.get_args(kind)
