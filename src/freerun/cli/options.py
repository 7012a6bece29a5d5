"""Commands whose options are the fields of dataclasses, set by flags or in a YAML file.

click parses the command line and lays out the help. The types, defaults and descriptions of the
options come from the dataclasses (`freerun.settings`), so that flags, YAML files, method
specifications such as `mle:label_smoothing=0.1` and Python agree on them.
"""

from __future__ import annotations

import inspect
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import click
from click.core import ParameterSource

from freerun.cli.stand_ins import NeedsLibrariesError, are_replaced
from freerun.settings import (
    MISSING,
    Setting,
    SettingError,
    build,
    convert,
    did_you_mean,
    format_value,
    list_settings,
)

T = TypeVar("T")
MAX_WIDTH = 100
CONTEXT: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": MAX_WIDTH,
    # `--model.hidden-size` is the same as `--model.hidden_size`.
    "token_normalize_func": lambda word: word.replace("-", "_"),
}
_METAVARS = {
    "budget": "SECONDS",
    "checkpoint": "CHECKPOINT",
    "comparison": "DIR",
    "config": "FILE",
    "data": "PATH",
    "file": "FILE",
    "init": "CHECKPOINT",
    "json": "FILE",
    "method": "METHOD",
    "methods": "METHOD",
    "metrics": "METRIC",
    "model": "MODEL",
    "output": "DIR",
    "png": "FILE",
    "report": "FILE",
    "reference_columns": "COLUMN",
    "source_column": "COLUMN",
    "source_columns": "COLUMN",
    "target_column": "COLUMN",
    **{f"{split}{side}": "FILE" for split in ("train", "dev", "test")
       for side in ("", "_source", "_target")},
}  # fmt: skip


@dataclass(frozen=True)
class CommandSetting:
    """A field of a dataclass as a parameter of a command.

    Attributes:
        name: what it is called: `model.cell` is `--model.cell`, or `cell` under `model` in YAML.
        setting: the field.
        cls: the dataclass that the field belongs to.
        section: the heading under which the help shows it.
        default: its value where neither a flag nor a YAML file sets it.
        positional: whether it is a positional argument instead of an option.
    """

    name: str
    setting: Setting
    cls: type
    section: str
    default: Any
    positional: bool

    @property
    def key(self) -> str:
        """The name of the parameter in click, which wants Python identifiers."""
        return self.name.replace(".", "__")

    @property
    def shown(self) -> str:
        """Its name on the command line."""
        return self.name.upper() if self.positional else f"--{self.name}"

    @property
    def is_flag(self) -> bool:
        """Whether it is an option without a value: a bool of the command itself."""
        return self.setting.kind is bool and "." not in self.name

    @property
    def is_free(self) -> bool:
        """Whether it takes any value that YAML has, or several values on the command line."""
        kind = self.setting.kind
        several = typing.get_origin(kind) in (list, tuple, dict)
        return kind is Any or several or Any in typing.get_args(kind)

    @property
    def is_required(self) -> bool:
        """Whether it is required, regardless of other settings."""
        return self.default is MISSING and self.setting.is_required

    @property
    def usage(self) -> str:
        """The option with the placeholder of its value."""
        if self.positional or self.is_flag:
            return self.shown
        several = " …" if self.is_free else ""
        return f"{self.shown} {_metavar(self.setting.name, self.setting.kind)}{several}"

    @property
    def summary(self) -> str:
        """Its description in the docstring of the dataclass."""
        return strip_markup(self.setting.summary).rstrip(".")

    @property
    def help(self) -> str:
        """The summary and the default."""
        if self.is_required:
            return f"{self.summary} (required)"
        condition = self.setting.condition
        summary = f"{self.summary}; only with {condition}" if condition else self.summary
        if self.default in (None, MISSING, ()) or self.is_flag:
            return summary
        tuple_ = isinstance(self.default, tuple)
        shown = " ".join(map(format_value, self.default)) if tuple_ else format_value(self.default)
        return f"{summary} (default: {shown if shown.strip() else repr(shown)})"

    def parameter(self) -> click.Parameter:
        """Return it as a parameter of click.

        It has neither a type nor a default in click: values are converted to the type of the field
        later, and defaults must be distinguished from values of the user.
        """
        if self.positional:
            return click.Argument([self.key], required=False)
        declared = [self.shown, self.key]
        if self.is_flag:
            return click.Option(declared, is_flag=True)
        return click.Option(declared, type=str, multiple=self.is_free)


class UserSettings:
    """The settings of a command as the user gave them.

    Args:
        known: the settings that the command has, by name.

    Attributes:
        values: the values that differ from the defaults of the dataclasses.
        places: the places where the user set them, for messages: a flag, or a line of a YAML file.
        overridden: the values of the YAML file that flags override, and their places.
    """

    def __init__(self, known: Mapping[str, CommandSetting]) -> None:
        self._known = known
        self.places: dict[str, str] = {}
        self.overridden: dict[str, tuple[Any, str]] = {}
        self.values: dict[str, Any] = {
            name: own.default
            for name, own in known.items()
            if own.default is not own.setting.default
        }

    def set(self, name: str, value: object, place: str) -> None:
        """Set a value after reading it as the type of its field.

        Raises:
            SettingError: if the value has the wrong type, or an empty text names something.
        """
        own = self._known[name]
        several = value if isinstance(value, list) else [value]
        if own.setting.name in _METAVARS and "" in several:
            raise SettingError(f"{place} is empty; it must be a {_METAVARS[own.setting.name]}")
        if name in self.places:
            self.overridden[name] = self.values[name], self.places[name]
        kind = own.setting.kind
        is_list = typing.get_origin(kind) in (list, tuple)
        self.values[name] = convert(value, kind, place) if is_list or not own.is_free else value
        self.places[name] = place

    def build(self, cls: type[T], where: str, **fixed: Any) -> T:
        """Return a dataclass with these settings.

        Args:
            cls: the dataclass.
            where: what to call it in messages.
            fixed: the values of fields that are not options.

        Raises:
            SettingError: if a setting is missing or out of range.
        """
        fields = [own for own in self._known.values() if own.cls is cls]
        for own in fields:
            if own.is_required and own.name not in self.values:
                raise SettingError(f"{own.shown} is missing: {own.summary}")
        given = {o.setting.name: self.values[o.name] for o in fields if o.name in self.values}
        return build(cls, {**fixed, **given}, where)


class SettingsCommand(click.Command, ABC):
    """A command whose parameters are the fields of dataclasses; its docstring is its help.

    Attributes:
        notes: what the help says at the end.
        describes: whether it only reads settings and docstrings, for which stand-ins suffice.
        known: its settings by name.
        hints: for settings that exist, but not on this command line, what to say about them.
    """

    notes: ClassVar[str] = ""
    describes: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        summary = (type(self).__doc__ or "").partition("\n\n")[0]
        super().__init__(
            name, help=summary, epilog=inspect.cleandoc(self.notes), context_settings=CONTEXT
        )
        self.known: dict[str, CommandSetting] = {}
        self.hints: dict[str, str] = {}

    @abstractmethod
    def declare(self, words: Sequence[str]) -> None:
        """Add the parameters, which may depend on the words of the command."""

    @abstractmethod
    def run(self, settings: UserSettings) -> None:
        """Run the command."""

    def add(
        self,
        cls: type,
        section: str = "Options",
        *,
        prefix: str = "",
        only: Collection[str] | None = None,
        skip: Collection[str] = (),
        positional: Collection[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the fields of a dataclass as parameters.

        Args:
            cls: the dataclass, whose docstring describes the fields.
            section: the heading under which the help shows them.
            prefix: put before the names of the fields, such as `model.`.
            only: the fields to add; all by default.
            skip: fields not to add.
            positional: fields that are positional arguments.
            defaults: values that replace the defaults of the fields.
        """
        known, given = list_settings(cls), defaults or {}
        for name in given.keys() - known.keys():
            hint = did_you_mean(name, known, "check the recipe of the task")
            raise SettingError(f"the recipe has an unknown setting {name!r}{hint}")
        for field in known.values():
            if field.name in skip or (only is not None and field.name not in only):
                continue
            name, placed = prefix + field.name, field.name in positional
            default = given.get(field.name, field.default)
            self.known[name] = CommandSetting(name, field, cls, section, default, placed)
            self.params.append(self.known[name].parameter())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read flags and the YAML file that `--config` names; flags take precedence.

        Raises:
            click.UsageError: if the words cannot be parsed.
            SettingError: if a setting is unknown or has the wrong type.
            DataError: if the YAML file cannot be read.
        """
        # A command is made for one call, so it can add the parameters of this call.
        self.declare(args)
        ctx.allow_extra_args = True  # so that freerun reports them
        try:
            super().parse_args(ctx, _repeat_flags(args, list(self.known.values())))
        except click.NoSuchOption as error:
            raise self._unknown_option(error.option_name, ctx) from None
        if ctx.args:
            hint = _explain_list(args, ctx.args[0], self.known) or _see(ctx)
            raise click.UsageError(f"unexpected argument {ctx.args[0]!r}; {hint}")
        ctx.obj = UserSettings(self.known)
        if ctx.params.get("config"):
            self._read_yaml(ctx.params["config"], ctx)
        # After the YAML file, regardless of the place of --config.
        for name, own in self.known.items():
            if ctx.get_parameter_source(own.key) is ParameterSource.COMMANDLINE:
                value = ctx.params[own.key]
                several = own.is_free and not own.positional
                ctx.obj.set(name, list(value) if several else value, own.shown)
        return []

    def invoke(self, ctx: click.Context) -> None:
        """Run the command with the settings that were parsed.

        Raises:
            NeedsLibrariesError: if it computes with libraries that are replaced by stand-ins.
        """
        if are_replaced() and not self.describes:
            raise NeedsLibrariesError
        self.run(ctx.obj)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the parts of the usage line: positional arguments and required options."""
        shown = [own for own in self.known.values() if own.positional or own.is_required]
        return [*(o.usage if o.is_required else f"[{o.usage}]" for o in shown), "[OPTIONS]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for own in sorted(self.known.values(), key=lambda own: not own.positional):
            sections.setdefault(own.section, []).append((own.usage, own.help))
        help_option = self.get_help_option(ctx)
        record = None if help_option is None else help_option.get_help_record(ctx)
        if record is not None:
            next(iter(sections.values())).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records, col_max=28)

    def _read_yaml(self, path: str, ctx: click.Context) -> None:
        """Set the values of a YAML file."""
        # freerun.data imports torch, which `freerun --help` does not need.
        from freerun.cli.config import CONFIG_EXAMPLE, read_config
        from freerun.data import DataError

        known = [own.name for own in self.known.values() if not own.positional]
        known.remove("config")
        whole = [name for name in known if self.known[name].is_free]
        for name, (value, line) in read_config(path, whole).items():
            where = f"{path}, line {line}"
            is_group = any(option.startswith(f"{name}.") for option in known)
            if is_group and value == {}:
                continue
            if name in known:
                ctx.obj.set(name, value, f"{where}: {name}")
            elif name in self.hints:
                raise SettingError(f"{where}: {name} {self.hints[name]}")
            elif is_group:
                raise DataError(f"{where}: {name} must be a mapping, such as {CONFIG_EXAMPLE}")
            else:
                nearest = did_you_mean(name, known, _see(ctx))
                raise SettingError(f"{where}: unknown setting {name!r}{nearest}")

    def _unknown_option(self, flag: str, ctx: click.Context) -> SettingError:
        if flag[2:] in self.hints:
            return SettingError(f"{flag} {self.hints[flag[2:]]}")
        flags = [own.shown for own in self.known.values() if not own.positional]
        return SettingError(f"unknown option {flag}{did_you_mean(flag, flags, _see(ctx))}")


def peek(words: Sequence[str], *names: str) -> dict[str, Any]:
    """Return the values of a few options, in flags or YAML, before all options are known.

    Args:
        words: the words of the command.
        names: the options, each of which takes one value.

    Raises:
        DataError: if the YAML file cannot be read.
    """
    from freerun.cli.config import read_config

    command = click.Command(
        "peek",
        params=[click.Option([f"--{name}"]) for name in ("config", *names)],
        # Other options, and errors, are reported when all options are known.
        context_settings={
            "ignore_unknown_options": True,
            "allow_extra_args": True,
            "help_option_names": [],
            "token_normalize_func": CONTEXT["token_normalize_func"],
        },
    )
    flags = command.make_context("peek", list(words), resilient_parsing=True).params
    found = {}
    if flags["config"]:
        found = {name: value for name, (value, _) in read_config(flags["config"]).items()}
    found |= {name: value for name, value in flags.items() if value is not None}
    return {name: found[name] for name in names if found.get(name)}


def strip_markup(text: str) -> str:
    """Return text without the markup of code and titles in docstrings."""
    return re.sub(r"\*([^*]+)\*", r"\1", text.replace("`", ""))


def _repeat_flags(words: Sequence[str], known: Sequence[CommandSetting]) -> list[str]:
    """Rewrite `--methods a b` as `--methods a --methods b`, which click understands.

    Raises:
        click.UsageError: if a flag that takes a value is followed by another flag or by nothing;
            click would take the other flag for the value.
    """
    several = {own.shown: own.is_free for own in known if not (own.positional or own.is_flag)}
    found: list[str] = []
    flag, expects = "", False
    for word in words:
        if word.startswith("--"):
            if expects:
                break
            name, equals, _ = word.partition("=")
            name = "--" + name[2:].replace("-", "_")
            flag = name if several.get(name, False) else ""
            expects = name in several and not equals
            last = name
        elif flag and not expects:
            found.append(flag)
        else:
            expects = False
        found.append(word)
    if expects:
        raise click.UsageError(f"{last} needs a value")
    return found


def _explain_list(
    words: Sequence[str], extra: str, known: Mapping[str, CommandSetting]
) -> str | None:
    """Return how to write the list of numbers that `extra` is a part of; None if it is of none."""
    if extra not in words or not re.fullmatch(r"[-\d,\]]+", extra):
        return None
    before = words[: list(words).index(extra)]
    flag = next((word for word in reversed(before) if word.startswith("--")), "").partition("=")[0]
    own = known.get(flag[2:].replace("-", "_"))
    kinds = () if own is None or own.is_free else typing.get_args(own.setting.kind)
    is_list = any(typing.get_origin(kind) is list for kind in kinds)
    return f"write a list without spaces, as in {flag} [1,2]" if is_list else None


def _see(ctx: click.Context) -> str:
    return f"see {ctx.command_path} --help"


def _metavar(name: str, kind: Any) -> str:
    """Return the placeholder of the value of a setting in the help."""
    if Path in (kind, *typing.get_args(kind)):
        return "FILE"
    if name in _METAVARS:
        return _METAVARS[name]
    arguments = [a for a in typing.get_args(kind) if a is not type(None)]
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(map(str, arguments)) + "}"
    if arguments:
        return _metavar(name, arguments[0])
    return {int: "N", float: "X", str: "TEXT", bool: "{true,false}"}.get(kind, name.upper())
