"""Settings of a command: precedence of flags, YAML and defaults, and error messages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import click
import pytest

from freerun.cli.options import SettingsCommand
from freerun.data import DataError
from freerun.settings import SettingError
from tests.helpers import raises

LAUGHS = "things:\n- &l0 ha\n" + "".join(f"- &l{i + 1} [{9 * f'*l{i}, '}]\n" for i in range(9))


@dataclass(frozen=True)
class Own:
    """Options of the command itself.

    Args:
        place: where it is.
        output: where to write, 100 % of it.
        things: what to take.
        names: what they are called.
        config: a YAML file.
        loud: say more.
    """

    place: str
    output: str | None = None
    things: Any = ("a", "b")
    names: tuple[str, ...] = ()
    config: str | None = None
    loud: bool = False


@dataclass(frozen=True)
class Inner:
    """Settings of a group.

    Args:
        size: how large.
        kind: of which `kind`.
        deep: whether it is deep.
        rate: how fast.
    """

    size: int = 1
    kind: Literal["x", "y"] = "x"
    deep: bool = True
    rate: float | None = None

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1")


class Tool(SettingsCommand):
    """Does it."""

    notes = "And more."

    def declare(self, words):
        self.hints = {"foreign": "is set by others"}
        self.add(Own, positional=["place"])
        self.add(Inner, only=["rate"])
        self.add(Inner, "Inner", prefix="in_ner.", skip=["rate"], defaults={"size": 5})

    def run(self, settings):
        raise AssertionError("not run by these tests")


def parse(*words):
    """The settings of a command line."""
    return Tool("tool").make_context("tool", list(words)).obj


@pytest.fixture
def yaml(tmp_path):
    """A function that writes a YAML file and returns its path."""

    def write(text):
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("words", [["--in-ner.size", "3"], ["--in-ner.size=3"]])
def test_dashes_are_the_same_as_underscores(words):
    settings = parse("here", *words, "--in_ner.kind", "y")
    assert settings.build(Inner, "inner") == Inner(size=3, kind="y")


def test_defaults():
    settings = parse("here")
    assert settings.build(Own, "own") == Own("here")
    assert settings.build(Inner, "inner") == Inner(size=5)


def test_yaml_overrides_defaults_and_flags_override_yaml_in_any_order(yaml):
    path = yaml("output: there\nrate: 1e-3\nthings: {a: {b: 1}}\nin_ner: {size: 7, kind: y}\n")
    settings = parse("here", "--in_ner.size", "9", "--config", path, "--output=elsewhere")
    assert settings.build(Own, "own") == Own("here", "elsewhere", {"a": {"b": 1}}, config=path)
    assert settings.build(Inner, "inner") == Inner(size=9, kind="y", rate=0.001)
    assert settings.places["output"] == "--output"
    assert settings.places["rate"] == f"{path}, line 2: rate"


def test_flags_are_read_as_their_type():
    inner = ["--in_ner.size", "3", "--in_ner.deep", "false", "--rate", "null"]
    settings = parse("here", *inner, "--loud", "--things", "p", "q")
    assert settings.build(Own, "own") == Own("here", things=["p", "q"], loud=True)
    assert settings.build(Inner, "inner") == Inner(size=3, deep=False)
    assert settings.places["in_ner.size"] == "--in_ner.size"


@pytest.mark.parametrize(
    ("words", "things"),
    [
        ("here --things p", ["p"]),
        ("here --things=p q", ["p", "q"]),
        ("here --things p --things q --rate -3", ["p", "q"]),
        ("--rate 3 here --things p -q --loud", ["p", "-q"]),
    ],
)
def test_a_flag_that_takes_several_values(words, things):
    assert parse(*words.split()).build(Own, "own").things == things


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("here --in_ner.sice 3", SettingError,
         "unknown option --in_ner.sice; did you mean '--in_ner.size'?"),
        ("here --size=3", SettingError, "unknown option --size; did you mean '--in_ner.size'?"),
        ("here --zzz", SettingError, "unknown option --zzz; see tool --help"),
        ("here --in_ner.si 3", SettingError, "unknown option --in_ner.si; did you mean "
         "'--in_ner.size'?"),
        ("here --in_ner.size x", SettingError, "--in_ner.size is 'x'; it must be a whole number"),
        ("here --in_ner.kind z", SettingError, "--in_ner.kind is 'z'; it must be one of x, y"),
        ("here --output=", SettingError, "--output is empty; it must be a DIR"),
        ("here --config=", SettingError, "--config is empty; it must be a FILE"),
        ("here --in_ner.size", click.UsageError, "--in_ner.size needs a value"),
        ("here --output --loud", click.UsageError, "--output needs a value"),
        ("here --things --loud", click.UsageError, "--things needs a value"),
        ("here there", click.UsageError, "unexpected argument 'there'; see tool --help"),
        ("here -x", SettingError, "unknown option -x; see tool --help"),
        ("here --foreign 3", SettingError, "--foreign is set by others"),
    ],
)  # fmt: skip
def test_wrong_flags_are_refused(words, kind, message):
    with raises(kind, message):
        parse(*words.split())


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("in_ner:\n  sice: 3\n", SettingError,
         "{path}, line 2: unknown setting 'in_ner.sice'; did you mean 'in_ner.size'?"),
        ("size: 3\n", SettingError,
         "{path}, line 1: unknown setting 'size'; did you mean 'in_ner.size'?"),
        ("place: here\n", SettingError, "{path}, line 1: unknown setting 'place'; see tool --help"),
        ("config: x\n", SettingError, "{path}, line 1: unknown setting 'config'; see tool --help"),
        ("\nin_ner: {size: many}\n", SettingError,
         "{path}, line 2: in_ner.size is 'many'; it must be a whole number"),
        ("in_ner: {deep: 1}\n", SettingError,
         "{path}, line 1: in_ner.deep is 1; it must be true or false"),
        ("output:\n  - a\n", SettingError, "{path}, line 1: output is [a]; it must be text or "
         "null"),
        ("\nnames: a\n", SettingError,
         "{path}, line 2: names is 'a'; it must be a list of texts, such as [a,b]"),
        ("in_ner: {}\noutput: {}\n", SettingError,
         "{path}, line 2: output is {{}}; it must be text or null"),
        ("in_ner: 3\n", DataError,
         "{path}, line 1: in_ner must be a mapping, such as training: {{updates: 1000}}"),
        ("- a\n", DataError,
         "{path}: it must be a mapping of settings, such as training: {{updates: 1000}}"),
        ("", DataError, "{path}: the file is empty"),
        ("foreign: 1\n", SettingError, "{path}, line 1: foreign is set by others"),
        ("# nothing\n", DataError,
         "{path}: it must be a mapping of settings, such as training: {{updates: 1000}}"),
        ("output: a\noutput: b\n", DataError,
         "{path}, line 2: output is set twice; it is already set on line 1"),
        ("in_ner:\n  size: 1\n  size: 2\n", DataError,
         "{path}, line 3: size is set twice; it is already set on line 2"),
        ("things:\n  a: 1\n  a: 2\n", DataError,
         "{path}, line 3: a is set twice; it is already set on line 2"),
        ("[a]: 1\n", DataError, "{path}, line 1: a key must be the name of a setting"),
        ("in_ner:\n  size: [1\n", DataError, "{path}, line 2: not YAML: expected ',' or ']', but "
         "got '<stream end>'"),
        ("a: b: c\n", DataError, "{path}, line 1: not YAML: mapping values are not allowed here"),
        ("output: !!python/object:os.system x\n", DataError,
         "{path}, line 1: tags such as 'tag:yaml.org,2002:python/object:os.system' are not "
         "supported"),
        ("rate: !!timestamp 2001-99-99\n", DataError,
         "{path}, line 1: tags such as 'tag:yaml.org,2002:timestamp' are not supported"),
        ("rate: 2001-99-99\n", SettingError,
         "{path}, line 1: rate is '2001-99-99'; it must be a number or null"),
        ("in_ner: {size: " + 4400 * "9" + "}\n", SettingError,
         "{path}, line 1: in_ner.size is '" + 59 * "9" + "; it must be a whole number"),
        ("in_ner: {deep: yes}\n", SettingError,
         "{path}, line 1: in_ner.deep is 'yes'; it must be true or false"),
        ("in_ner: {size: 1:30}\n", SettingError,
         "{path}, line 1: in_ner.size is '1:30'; it must be a whole number"),
        ("in_ner: {size: 1}\nin_ner.size: 2\n", DataError,
         "{path}, line 2: in_ner.size is set twice; it is already set on line 1"),
        ("things: &a\n- *a\n", DataError,
         "{path}, line 1: it is nested more than 50 levels deep"),
        (LAUGHS, DataError, "{path}: it has more than 10,000 values"),
        ("things: " + 100 * "[" + 100 * "]", DataError,
         "{path}, line 1: it is nested more than 50 levels deep"),
        ("things: " + 50_000 * "[", DataError, "{path}: it is nested more than 50 levels deep"),
        ("things: &a {x: 1}\nin_ner:\n  <<: *a\n", DataError,
         "{path}, line 3: merge keys (<<) are not supported"),
        ("rate: 1\noutput: a\x01b\n", DataError,
         "{path}, line 2: not YAML: it has the character U+0001"),
        ('output: "a\\0b"\n', SettingError,
         "{path}, line 1: output is 'a\\x00b'; it must be text in UTF-8"),
        *((text, DataError, "{path}: not YAML: the number of a character or a version is too large")
          for text in ('output: "\\UFFFFFFFF"\n', 'output: "\\U00110000"\n',
                       f"%YAML {5000 * '1'}.1\n---\nrate: 1\n")),
        ("in_ner:\n\tsize: 1\n", DataError, "{path}, line 2: not YAML: found character '\\t' "
         "that cannot start any token"),
        ("rate: 1\n---\nrate: 2\n", DataError,
         "{path}, line 2: not YAML: but found another document"),
        ("#" * 100_001, DataError,
         "{path}: it has 100,001 bytes; settings have at most 100,000"),
        (b"output: \xff\n", DataError, "{path}, line 1: byte 0xff at column 9 is not UTF-8; save "
         "the file as UTF-8"),
    ],
)  # fmt: skip
def test_wrong_yaml_is_refused_with_its_line(yaml, text, kind, message):
    path = yaml(text)
    with raises(kind, message.format(path=path)):
        parse("here", "--config", path)


def test_what_an_alias_repeats_is_read(yaml):
    path = yaml("things: {a: &own {b: no, c: 010}, d: *own}\n")
    inner = {"b": "no", "c": 10}
    assert parse("here", "--config", path).values["things"] == {"a": inner, "d": inner}


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError) as caught:
            parse("here", "--config", str(path))
        assert str(caught.value) == f"{path}: it is not a regular file"


def test_a_missing_file_is_named():
    with raises(DataError, "nowhere.yaml: there is no such file"):
        parse("here", "--config", "nowhere.yaml")


def test_a_missing_setting_is_named_as_on_the_command_line():
    with raises(SettingError, "PLACE is missing: where it is"):
        parse().build(Own, "own")


def test_ranges_are_checked():
    with raises(SettingError, "inner: size is 0; it must be at least 1"):
        parse("here", "--in_ner.size", "0").build(Inner, "inner")


def test_the_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "82")
    with pytest.raises(click.exceptions.Exit):
        parse("--help")
    assert capsys.readouterr().out == (
        "Usage: tool PLACE [OPTIONS]\n"
        "\n"
        "  Does it.\n"
        "\n"
        "Options:\n"
        "  PLACE              where it is (required)\n"
        "  --output DIR       where to write, 100 % of it\n"
        "  --things THINGS …  what to take (default: a b)\n"
        "  --names TEXT …     what they are called\n"
        "  --config FILE      a YAML file\n"
        "  --loud             say more\n"
        "  --rate X           how fast\n"
        "  -h, --help         Show this message and exit.\n"
        "\n"
        "Inner:\n"
        "  --in_ner.size N             how large (default: 5)\n"
        "  --in_ner.kind {x,y}         of which kind (default: x)\n"
        "  --in_ner.deep {true,false}  whether it is deep (default: true)\n"
        "\n"
        "  And more.\n"
    )
