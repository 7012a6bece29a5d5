"""`freerun train`: its output, the precedence of settings, and error messages."""

import json
import re
import shutil

import pytest

from freerun.tasks import TASKS, Digits
from freerun.training import load_policy
from tests.cli.tiny import MODEL, TASK, TINY, TRAINING

SEE = "see freerun train digits --help"
OUTPUT = "the folder of the model and its checkpoints; an unfinished run in it is resumed"
LETTERS = (
    "letter.data, plain or gzipped; or a datasets id or folder with the columns pixels "
    "(a list of 128 numbers in [0, 1] for every letter) and word"
)


def record(folder):
    return json.loads((folder / "freerun.json").read_text())


def test_training_prints_the_dev_figures(run, tmp_path):
    output = tmp_path / "model"
    status, printed, errors = run("train", "digits", "--output", output, *TINY)
    assert status == 0
    dev = record(output)["results"]["dev"]
    assert printed == (
        "digits, dev, free-running, greedy, after 4 updates:\n"
        f"  character error  {dev['character_error'] * 100:6.2f} %\n"
        f"  exact match      {dev['exact_match'] * 100:6.2f} %\n"
        f"The model is in {output}; on test:  freerun evaluate {output}\n"
    )
    assert "train: 40 dates, 1445 images\n" in errors
    assert re.search(r"4/4 .*dev character_error", errors)


@pytest.mark.parametrize(
    "words",
    [["--task", "digits"], ["--output", "x", "--task=digits"], ["--task", "digits", "--quiet"]],
)
def test_the_task_may_be_named_by_a_flag(run, words):
    assert run("train", *words, "--help") == run("train", "digits", "--help")
    assert run("train", *words, "--help")[0] == 0


def test_flags_override_yaml_and_yaml_overrides_the_recipe(run, tmp_path):
    output, config = tmp_path / "model", tmp_path / "run.yaml"
    config.write_text(
        "method: scheduled_sampling:schedule=linear\nseed: 3\nquiet: true\n"
        "task: {train_size: 30, dev_size: 10}\nmodel: {hidden_size: 6, layers: 2}\n"
        "training: {updates: 4, evaluate_every: 2, batch_size: 4, learning_rate: 1e-4}\n"
    )
    flags = ["--model.hidden_size", "5", "--task.dev_size", "11", "--task.test_size", "9"]
    words = ["--output", output, *flags, "--config", config]
    status, _, errors = run("train", "digits", *words)
    assert (status, errors) == (0, "")
    found = record(output)
    assert found["task"]["name"] == "digits"
    assert found["task"]["settings"] == {
        "noise": 0.3, "train_size": 30, "dev_size": 11, "test_size": 9, "seed": 0, "metrics": [],
        "headline": None,
    }  # fmt: skip
    assert found["methods"]["scheduled_sampling"]["settings"]["schedule"] == "linear"
    assert (found["model"]["hidden_size"], found["model"]["layers"]) == (5, 2)
    assert found["model"]["attention"] == Digits.recipe["model"]["attention"]
    assert (found["training"]["learning_rate"], found["seeds"]) == (1e-4, [3])


def test_the_same_command_loads_a_finished_run(run, trained):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    status, _, errors = run("train", "digits", "--output", trained, "--quiet", *TINY)
    assert (status, errors) == (0, "")
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_folder_with_a_space_is_quoted_in_the_next_command(run, trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "a b")
    status, output, _ = run("train", "digits", "--output", copy, "--quiet", *TINY)
    assert status == 0
    assert output.splitlines()[-1].endswith(f":  freerun evaluate '{copy}'")


def test_init_takes_the_model_of_the_checkpoint(run, trained, tmp_path):
    output = tmp_path / "model"
    words = ["--output", output, "--init", trained, "--quiet", *TASK, *TRAINING]
    method = ["--method", "scheduled_sampling"]
    status, _, errors = run("train", "digits", *words, *method)
    assert (status, errors) == (0, "")
    policy, _ = load_policy(output)
    assert policy.config.hidden_size == 8
    assert record(output)["init"] == str(trained)


def test_an_interrupted_run_is_resumed(run, trained, tmp_path, monkeypatch):
    output = tmp_path / "model"
    words = ["train", "digits", "--output", output, "--quiet", *TINY]
    from freerun.training import trainer

    whole = trainer.RunTrainer.evaluate

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(trainer.RunTrainer, "evaluate", interrupted)
    status, _, errors = run(*words)
    assert status == 130
    assert errors == (
        "\nfreerun train: interrupted; the same command resumes from the last checkpoint\n"
    )
    monkeypatch.setattr(trainer.RunTrainer, "evaluate", whole)
    assert run(*words)[0] == 0
    assert (output / "model.safetensors").read_bytes() == (
        trained / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"the task comes first: freerun train TASK …, one of {', '.join(TASKS)}"),
        (["--output", "x", "digits"], "the task comes first: freerun train TASK …, one of "
         f"{', '.join(TASKS)}"),
        (["digit"], "unknown task 'digit'; did you mean 'digits'?"),
        (["--output", "x", "--task", "digit"], "unknown task 'digit'; did you mean 'digits'?"),
        (["--task"], f"the task comes first: freerun train TASK …, one of {', '.join(TASKS)}"),
        (["chess"], f"unknown task 'chess'; known are {', '.join(TASKS)}"),
        (["digits"], f"--output is missing: {OUTPUT}"),
        (["ocr", "--output", "x"], f"--data is missing: {LETTERS}"),
        (["digits", "--output", "x", "--data", "y"], "--data does not apply: the task digits "
         "comes with its data"),
        (["tagging", "--output", "x"], "task tagging: tagging needs data, or train and test"),
        (["digits", "--output", "x", "--method", "scheduled"], "unknown method 'scheduled'; did "
         "you mean 'scheduled_sampling'?"),
        (["digits", "--output", "x", "--method", "mle:k=1"], "method 'mle:k=1': unknown setting "
         "'k'; known are label_smoothing"),
        (["digits", "--output", "x", "--updates", "3"], "unknown option --updates; did you mean "
         "'--training.updates'?"),
        (["digits", "--output", "x", "--epochs", "3"], "--epochs does not exist: set "
         "--training.updates; an epoch has as many as there are rows, divided by "
         "--training.batch_size"),
        (["digits", "--output", "x", "--frob"], f"unknown option --frob; {SEE}"),
        (["digits", "--output", "x", "y"], f"unexpected argument 'y'; {SEE}"),
        (["digits", "--output", "x", "--model.cell", "rnn"], "--model.cell is 'rnn'; it must be "
         "one of gru, lstm"),
        (["digits", "--output", "x", "--model.attention", "none", "--model.input_feeding", "true"],
         "model: input_feeding needs attention: without it, there is no attentional output to "
         "feed"),
        (["digits", "--output", "x", "--model.attention", "aligned"], "attention='aligned' needs "
         "targets as long as their source, but this vocabulary has an eos"),
        (["digits", "--output", "x", "--task.noise", "2"], "task digits: noise is 2.0; it must "
         "lie in 0 … 1"),
        (["digits", "--output", "x", "--budget", "0"], "training: budget is 0.0; it must be above "
         "0"),
        (["digits", "--output", "x", "--config", "nowhere"], "nowhere: there is no such file"),
    ],
)  # fmt: skip
def test_errors_are_reported_before_training(refuses, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    refuses(f"freerun train: {message}", "train", *words)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_reported_before_the_data_are_loaded(refuses, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    refuses(
        f"freerun train: {file}: it is a file; choose another output directory",
        *("train", "spelling", "--data", tmp_path / "nowhere.txt", "--output", file, *TINY),
    )
    assert file.read_text() == "mine"


def test_the_overview_lists_the_tasks(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, output, errors = run("train", "--help")
    assert (status, errors) == (0, "")
    assert output.startswith("Usage: freerun train TASK …\n")
    for name, task in TASKS.items():
        assert f"  {name:{max(map(len, TASKS))}}  {task.summary}\n" in output


@pytest.mark.parametrize("task", TASKS.values())
def test_the_help_shows_the_defaults_of_the_task(run, task, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    status, output, errors = run("train", task.name, "--help")
    assert (status, errors) == (0, "")
    assert max(map(len, output.splitlines())) <= 100
    output = " ".join(output.split())
    for group, settings in task.recipe.items():
        for name, value in settings.items():
            shown = str(value).lower() if isinstance(value, bool) else value
            entry = output.partition(f"--{group}.{name} ")[2].partition("--")[0]
            assert f"(default: {shown})" in entry, name
    assert MODEL[0] in output


def test_updates_and_seconds_are_not_both_given(run, tmp_path):
    status, _, errors = run("train", "digits", "--output", tmp_path, "--budget", "3", *TINY)
    assert status == 2
    assert errors == (
        "freerun train: --budget and --training.updates: a budget of seconds takes the place of "
        "updates; give one\n"
    )
