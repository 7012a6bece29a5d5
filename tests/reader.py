"""Does what a page of the documentation says: runs its Python, and its commands in this process.

Training is cut down to two updates of a tiny model on little data, by flags that are added to the
command; the command itself, as it stands on the page, is checked up to the point where it would
read the data.
"""

import io
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

from freerun.cli import main
from freerun.tasks import TASKS
from tests.pages import ROOT

TINY_MODEL = "--model.hidden_size 6 --model.embedding_size 5"
SHORT = "--training.batch_size 4"
FEW = "--training.updates 2 --training.evaluate_every 1"
BRIEF = "--budget 0.1 --training.evaluate_every 99"
SCRIPT = re.compile(r"\.(py|sh|yaml)$")
SMALL = {
    "digits": "--task.train_size 16 --task.dev_size 4 --task.test_size 4",
    "spelling": "--task.train_size 16 --task.dev_size 4 --task.test_size 4",
    "arithmetic": "--task.train_size 16 --task.dev_size 4 --task.test_size 4",
}


class StoppedError(BaseException):
    """Raised where a command begins to read its data: all its settings were right.

    It is no Exception, so that the command does not report it as an error in a user's code.
    """


class Reader:
    """Runs the blocks of a page."""

    def __init__(self, monkeypatch, capsys):
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.page = self.module("page")

    def module(self, name):
        """A new module that can be imported, as dataclasses look for the one they stand in."""
        module = ModuleType(name)
        self.monkeypatch.setitem(sys.modules, name, module)
        return module

    def python(self, code, where, *, run=True):
        """Run Python, and the tests in it. Code that begins with its file's name is a module."""
        compiled = compile(code, where, "exec", dont_inherit=True)
        if not run:
            return
        file = re.match(r"# (?:src/)?([\w/]+)\.py\n", code)
        module = self.module(file[1].replace("/", ".")) if file else self.page
        before = dict(vars(module))
        exec(compiled, vars(module))
        for name, value in list(vars(module).items()):
            if name.startswith("test_") and before.get(name) is not value:
                value()

    def command(self, line, *, run=True):
        """Do what a line for a shell says: its exit status, and what it prints."""
        words = shlex.split(line, comments=True)
        if words[0] == "freerun":
            return self.freerun(words[1:], run=run)
        if words[0] in ("accelerate", "torchrun"):
            if "-m" not in words:
                return script(words)
            start = words.index("-m")
            assert words[start + 1] == "freerun"
            return self.freerun(words[start + 2 :], run=False)
        name = Path(words[0]).name
        if name not in SYSTEM and not SCRIPT.search(name):
            return 2, f"{name} is not among what can be checked: {', '.join(SYSTEM)}"
        return SYSTEM.get(name, script)(words)

    def freerun(self, words, *, run):
        """Run a command of freerun; one that trains is checked as it is, and run in little."""
        trains = words[0] in ("train", "compare") and len(words) > 1 and words[1] in TASKS
        self.capsys.readouterr()
        if trains or not run:
            elsewhere = ["--output", "unused"] if trains else []
            checked = self.checked([*words, *elsewhere])
            if checked is not None or not run:
                return checked or (0, "")
        if not trains:
            return self.main(words)
        long = BRIEF if "--budget" in words else FEW
        extra = f"{SHORT} {long} {SMALL.get(words[1], '')}"
        extra += "" if {"--init", "--model"} & set(words) else f" {TINY_MODEL}"
        extra += " --seeds 1" if words[0] == "compare" else ""
        return self.main([*words, *extra.split()])

    def checked(self, words):
        """What a command that is mistaken prints; None where it gets as far as its data."""
        with self.monkeypatch.context() as patch:
            for task in TASKS.values():
                for reads in ("load", "rows"):
                    patch.setattr(task, reads, stop)
            patch.setattr("freerun.models.settings.PretrainedSettings.load", stop)
            patch.setattr("freerun.study.ray_workers.RayEngine.__init__", stop)
            for loads in (
                "cli.costs.load_policy",
                "cli.predict.load_predictor",
                "cli.evaluate.load_measured",
                "study.diagnosis.load_measured",
            ):
                patch.setattr(f"freerun.{loads}", stop)
            try:
                return self.main(words)
            except StoppedError:
                return None

    def main(self, words):
        if "<" in words:
            words, (name,) = words[: words.index("<")], words[words.index("<") + 1 :]
            stdin = SimpleNamespace(buffer=io.BytesIO(Path(name).read_bytes()))
            self.monkeypatch.setattr(sys, "stdin", stdin)
        status = main(words)
        out, err = self.capsys.readouterr()
        return status, out + err


def stop(*arguments, **settings):
    raise StoppedError


def make(words):
    """The targets are in the Makefile."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    return (0 if set(words[1:]) <= set(targets) else 2), f"targets are {targets}"


def pip(words):
    """The extras are those of the package."""
    lists = re.findall(r"\[(.*?)\]", " ".join(words))
    wanted = {extra for names in lists for extra in names.split(",")}
    known = metadata("freerun").get_all("Provides-Extra")
    return (0 if wanted <= set(known) else 2), f"extras are {known}"


def script(words):
    """The scripts and the tests that it names are there."""
    files = [file for file in (word.partition("::")[0] for word in words) if SCRIPT.search(file)]
    missing = [file for file in files if not (ROOT / file).exists()]
    return (2 if missing else 0), f"missing: {missing}"


def run_tests(words):
    """Runs the tests of files that a page has written; others are there."""
    if not all(Path(word).exists() for word in words[1:]):
        return script(words)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout


def tensorboard(words):
    """There is something to show."""
    folder = Path(words[words.index("--logdir") + 1])
    return (0 if list(folder.rglob("events.out.tfevents.*")) else 2), f"nothing in {folder}"


SYSTEM = {
    "make": make,
    "pip": pip,
    "pytest": run_tests,
    "python": script,
    "ruff": script,
    "tensorboard": tensorboard,
}


def sample_data(folder):
    """A little of what the pages read: names and formats are those of the real files."""
    words = ["ab", "bca", "cab", "abc", "ba", "cc", "bab", "aca", "bb", "cba", "ac", "bc"] * 2
    lines, number = [], 0
    for word_id, word in enumerate(words):
        for position, letter in enumerate(word, 1):
            number += 1
            follows = -1 if position == len(word) else number + 1
            dots = ["01"[(number * i) % 7 == 0] for i in range(1, 129)]
            cells = [number, letter, follows, word_id, position, word_id % 3, *dots]
            lines.append("\t".join(map(str, cells)))
    (folder / "letter.data").write_text("\n".join(lines) + "\n")
    (folder / "book.txt").write_text(
        "\n".join(
            f"It was the {i}th of May, and {i * i} bells rang in the town." for i in range(99)
        )
    )
