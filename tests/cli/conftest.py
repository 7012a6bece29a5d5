"""The command line in this process, and a model that is trained once."""

import pytest

from freerun.cli import main
from tests.cli.tiny import TINY


@pytest.fixture
def run(capsys):
    """A function that runs freerun and returns its status, output and errors."""

    def runner(*words):
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit:
            status = exit.code
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
    assert main(["train", "digits", "--output", str(folder), "--quiet", *TINY]) == 0
    return folder
