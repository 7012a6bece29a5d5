"""Runs the command line in this process; models that are trained once per session."""

import itertools

import pytest

from freerun.cli import main
from tests.cli.tiny import MODEL, TINY, TRAINING
from tests.helpers import keeping_checkpoints

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "five", "boxing"]


@pytest.fixture
def run(capsys):
    """A function that runs freerun and returns its status, output and errors."""

    def runner(*words):
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return runner


@pytest.fixture
def refuses(run):
    """A function that checks that a command fails with exactly this message and nothing else."""

    def check(message, *words):
        status, output, errors = run(*words)
        assert (status, output, errors) == (2, "", f"{message}\n")

    return check


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a model that was trained for a few updates."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    with keeping_checkpoints():
        assert main(["train", "digits", "--output", str(folder), "--quiet", *TINY]) == 0
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A text file to learn spelling from."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(f"{one} {two}" for one, two in itertools.permutations(WORDS, 2)))
    return path


@pytest.fixture(scope="session")
def speller(tmp_path_factory, text):
    """The folder of a model of spelling that was trained for a few updates."""
    folder = tmp_path_factory.mktemp("speller") / "model"
    words = ["--data", str(text), "--output", str(folder), "--quiet", *MODEL, *TRAINING]
    assert main(["train", "spelling", *words]) == 0
    return folder
