"""Settings of a command: defaults under YAML under flags, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from freerun.cli.options import Options, UsageError
from freerun.data import DataError
from freerun.settings import SettingError


@dataclass(frozen=True)
class Own:
    """Options of the command itself.

    Args:
        place: where it is.
        output: where to write, 100 % of it.
        things: what to take.
        config: a YAML file.
        loud: say more.
    """

    place: str
    output: str | None = None
    things: Any = ("a", "b")
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


@pytest.fixture
def options():
    found = Options("tool", "PLACE [SETTINGS]", "Does it.", "And more.")
    found.add(Own, "options", positional=["place"])
    found.add(Inner, "the inner", prefix="inner.", skip=["rate"], values={"size": 5})
    found.add(Inner, "options", only=["rate"])
    return found


@pytest.fixture
def yaml(tmp_path):
    """A function that writes a YAML file and returns its path."""

    def write(text):
        path = tmp_path / "settings.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("words", [["--in-ner.size", "3"], ["--in-ner.size=3"]])
def test_dashes_are_as_good_as_underscores(words):
    found = Options("tool", "[SETTINGS]", "Does it.")
    found.add(Inner, "the inner", prefix="in_ner.")
    found.parse([*words, "--in_ner.kind", "y"])
    assert found.build(Inner, "inner") == Inner(size=3, kind="y")
    with pytest.raises(SettingError, match=r"^unknown option --in-ner\.sice; did you mean"):
        found.parse(["--in-ner.sice", "3"])


def test_defaults(options):
    options.parse(["here"])
    assert options.build(Own, "own") == Own("here")
    assert options.build(Inner, "inner") == Inner(size=5)


def test_yaml_overrides_defaults_and_flags_override_yaml_wherever_they_stand(options, yaml):
    path = yaml("output: there\nrate: 1e-3\nthings: {a: {b: 1}}\ninner: {size: 7, kind: y}\n")
    options.parse(["here", "--inner.size", "9", "--config", path, "--output=elsewhere"])
    assert options.build(Own, "own") == Own("here", "elsewhere", {"a": {"b": 1}}, path)
    assert options.build(Inner, "inner") == Inner(size=9, kind="y", rate=0.001)


def test_flags_are_read_as_their_type(options):
    inner = ["--inner.size", "3", "--inner.deep", "false", "--rate", "null"]
    options.parse(["here", *inner, "--loud", "--things", "p", "q"])
    assert options.build(Own, "own") == Own("here", things=["p", "q"], loud=True)
    assert options.build(Inner, "inner") == Inner(size=3, deep=False)
    assert options.places["inner.size"] == "--inner.size"


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("here --inner.sice 3", SettingError,
         "unknown option --inner.sice; did you mean '--inner.size'?"),
        ("here --size=3", SettingError, "unknown option --size; did you mean '--inner.size'?"),
        ("here --zzz", SettingError, "unknown option --zzz; see tool --help"),
        ("here --inner.si 3", SettingError, "unknown option --inner.si; did you mean "
         "'--inner.size'?"),
        ("here --inner.size x", SettingError, "--inner.size is 'x'; it must be a whole number"),
        ("here --inner.kind z", SettingError, "--inner.kind is 'z'; it must be one of x, y"),
        ("here --inner.size", UsageError, "argument --inner.size: expected one argument"),
        ("here there", UsageError, "'there' is not expected here; see tool --help"),
    ],
)  # fmt: skip
def test_wrong_flags_are_refused(options, words, kind, message):
    with pytest.raises(kind) as caught:
        options.parse(words.split())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("inner:\n  sice: 3\n", SettingError,
         "{path}, line 2: unknown setting 'inner.sice'; did you mean 'inner.size'?"),
        ("size: 3\n", SettingError,
         "{path}, line 1: unknown setting 'size'; did you mean 'inner.size'?"),
        ("place: here\n", SettingError, "{path}, line 1: unknown setting 'place'; see tool --help"),
        ("config: x\n", SettingError, "{path}, line 1: unknown setting 'config'; see tool --help"),
        ("\ninner: {size: many}\n", SettingError,
         "{path}, line 2: inner.size is 'many'; it must be a whole number"),
        ("inner: {deep: 1}\n", SettingError,
         "{path}, line 1: inner.deep is 1; it must be true or false"),
        ("output:\n  - a\n", SettingError, "{path}, line 1: output is [a]; it must be text or "
         "null"),
        ("inner: 3\n", DataError,
         "{path}, line 1: inner must be a mapping, such as training: {{updates: 1000}}"),
        ("- a\n", DataError,
         "{path}: it must be a mapping of settings, such as training: {{updates: 1000}}"),
        ("", DataError, "{path}: the file is empty"),
        ("# nothing\n", DataError,
         "{path}: it must be a mapping of settings, such as training: {{updates: 1000}}"),
        ("output: a\noutput: b\n", DataError,
         "{path}, line 2: output is set twice; it also stands on line 1"),
        ("inner:\n  size: 1\n  size: 2\n", DataError,
         "{path}, line 3: size is set twice; it also stands on line 2"),
        ("things:\n  a: 1\n  a: 2\n", DataError,
         "{path}, line 3: a is set twice; it also stands on line 2"),
        ("[a]: 1\n", DataError, "{path}, line 1: a key must be the name of a setting"),
        ("inner:\n  size: [1\n", DataError, "{path}, line 2: not YAML: expected ',' or ']', but "
         "got '<stream end>'"),
        ("a: b: c\n", DataError, "{path}, line 1: not YAML: mapping values are not allowed here"),
        ("output: !!python/object:os.system x\n", DataError,
         "{path}, line 1: not YAML: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object:os.system'"),
        (b"output: \xff\n", DataError, "{path}, line 1: byte 0xff at column 9 is not UTF-8; save "
         "the file as UTF-8"),
    ],
)  # fmt: skip
def test_wrong_yaml_is_refused_with_its_line(options, yaml, text, kind, message):
    path = yaml(text)
    with pytest.raises(kind) as caught:
        options.parse(["here", "--config", path])
    assert str(caught.value) == message.format(path=path)


def test_a_missing_file_is_named(options):
    with pytest.raises(DataError) as caught:
        options.parse(["here", "--config", "nowhere.yaml"])
    assert str(caught.value) == "nowhere.yaml: there is no such file"


def test_what_is_missing_is_named_as_it_is_given(options):
    options.parse([])
    with pytest.raises(SettingError) as caught:
        options.build(Own, "own")
    assert str(caught.value) == "PLACE is missing: where it is"


def test_ranges_are_checked(options):
    options.parse(["here", "--inner.size", "0"])
    with pytest.raises(SettingError) as caught:
        options.build(Inner, "inner")
    assert str(caught.value) == "inner: size is 0; it must be at least 1"


def test_the_help(options, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        options.parse(["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == (
        "Usage: tool PLACE [SETTINGS]\n"
        "\n"
        "Does it.\n"
        "\n"
        "options:\n"
        "  PLACE                      where it is (required)\n"
        "  --output DIR               where to write, 100 % of it\n"
        "  --things THINGS …          what to take (default: a b)\n"
        "  --config FILE              a YAML file\n"
        "  --loud                     say more\n"
        "  --rate X                   how fast\n"
        "  -h, --help                 show this help, and exit\n"
        "\n"
        "the inner:\n"
        "  --inner.size N             how large (default: 5)\n"
        "  --inner.kind {x,y}         of which kind (default: x)\n"
        "  --inner.deep {true,false}  whether it is deep (default: true)\n"
        "\n"
        "And more.\n"
    )
