"""Words and their sounds on the command line."""

import json

import pytest

from freerun.models.settings import PretrainedSettings
from freerun.tasks import Pairs
from tests.cli.tiny import MODEL, TRAINING

SMALL = ["--model.hidden_size", "8", "--model.layers", "1", "--model.heads", "2"]
CHOSEN = "target_tokens=symbols, source_tokens=characters"


@pytest.fixture
def sounds(write):
    rows = [(f"{a}{b}{c}", f"{a.upper()} {b} {c}") for a in "abc" for b in "xyz" for c in "mno"]
    return write("".join(f"{word}\t{sound}\n" for word, sound in rows), "sounds.tsv")


@pytest.mark.parametrize("model", [MODEL, ["--model", "seq2seq", *SMALL]])
def test_one_command_reports_word_and_phoneme_error_rate(run, tmp_path, sounds, model):
    folder, figures = tmp_path / "model", tmp_path / "figures.json"
    status, output, errors = run(
        "train", "pairs", "--data", sounds, *model, *TRAINING, "--output", folder
    )
    assert status == 0
    assert CHOSEN in " ".join(errors.split())
    assert [line.split("  ")[1] for line in output.splitlines()[1:3]] == [
        "sequence error",
        "token error",
    ]
    settings = json.loads((folder / "freerun.json").read_text())["task"]["settings"]
    assert (settings["source_tokens"], settings["target_tokens"]) == ("characters", "symbols")
    assert run("evaluate", folder, "--json", figures)[0] == 0
    assert [*json.loads(figures.read_text())["metrics"]] == ["sequence_error", "token_error"]


def test_a_comparison_chooses_the_same(run, tmp_path, sounds):
    words = ["compare", "pairs", "--data", sounds, "--methods", "mle", "--seeds", "1"]
    status, output, errors = run(*words, *MODEL, *TRAINING, "--output", tmp_path / "runs")
    assert status == 0
    assert CHOSEN in " ".join(errors.split())
    assert "sequence error" in output


def test_a_model_with_tokens_needs_none(sounds):
    task = Pairs(sounds)
    assert PretrainedSettings(path="gpt2").complete_task(task) == (task, [])
