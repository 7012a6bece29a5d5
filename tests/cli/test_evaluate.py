"""`freerun evaluate`: figures of models and data, and error messages."""

import json
import shutil
from math import exp

import pytest

from freerun.evaluation import Decoding, evaluate, measure_by_length, teacher_forced_loss
from freerun.settings import to_dict
from freerun.tasks import Digits, load_data
from freerun.training import load_policy
from tests.cli.tiny import MODEL, TRAINING
from tests.full import FULL, full
from tests.helpers import edit_record

CHECKPOINT = "the folder of a trained model; with --data, it may be any Hugging Face model"


@pytest.fixture
def figures(trained):
    """A function that evaluates the trained model by hand."""

    def find(split, **decoding):
        policy, codec = load_policy(trained)
        task = Digits(train_size=40, dev_size=12, test_size=14)
        examples = getattr(load_data(task), split)
        found = evaluate(policy, task, codec, examples, decoding=Decoding(**decoding))
        return found, teacher_forced_loss(policy, examples)

    return find


def test_the_test_split_is_evaluated_free_running(run, trained, figures):
    found, loss = figures("test")
    status, output, errors = run("evaluate", trained)
    assert (status, errors) == (0, "")
    assert output == (
        "digits, test, 14 examples, free-running, greedy:\n"
        f"  character error  {found.metrics['character_error'] * 100:6.2f} %\n"
        f"  exact match      {found.metrics['exact_match'] * 100:6.2f} %\n"
        "teacher-forced, which is not how it runs: "
        f"log loss {loss:.4f} per token, perplexity {exp(loss):.2f}\n"
    )


def test_json_has_all_figures(run, trained, figures, tmp_path):
    found, loss = figures("dev", beam=3, length_penalty=0.5)
    path = tmp_path / "figures.json"
    words = ["--split", "dev", "--beam", "3", "--length_penalty", "0.5", "--json", path]
    status, output, _ = run("evaluate", trained, *words)
    assert status == 0
    assert output.startswith("digits, dev, 12 examples, free-running, beam 3:\n")
    assert json.loads(path.read_text()) == {
        "task": "digits",
        "checkpoint": str(trained),
        "examples_of": "dev",
        "examples": 12,
        "decoding": to_dict(Decoding(beam=3, length_penalty=0.5)),
        "metrics": pytest.approx(found.metrics),
        "backspaces": None,
        "signatures": {},
        "teacher_forced_loss": pytest.approx(loss),
        "teacher_forced_perplexity": pytest.approx(exp(loss)),
        "error_by_position": pytest.approx(found.error_by_position),
        "count_by_position": found.count_by_position,
        "by_length": measure_by_length(found.statistics, [*map(len, found.references)]),
    }


def test_a_full_disk_is_reported_with_the_name_of_the_file(run, trained, tmp_path):
    path = tmp_path / "figures.json"
    with full():
        status, _, errors = run("evaluate", trained, "--json", path)
    assert (status, errors) == (2, f"freerun evaluate: {path}: {FULL}\n")
    assert not path.exists()


def test_a_checkpoint_of_an_unfinished_run_can_be_evaluated(run, trained):
    status, output, _ = run("evaluate", trained / "checkpoint-2")
    assert status == 0
    assert output.startswith("digits, test, 14 examples, free-running, greedy:\n")


def test_a_new_file_is_evaluated_as_a_whole(run, speller, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("five boxing wizards jump quickly")
    status, output, errors = run("evaluate", speller, "--data", path)
    assert (status, errors) == (0, "")
    assert output.startswith(f"spelling, {path}, 4 examples, free-running, greedy:\n")


def test_data_that_were_moved_are_split_as_before(run, speller, text, tmp_path):
    moved = shutil.copy(text, tmp_path / "moved.txt")
    expected = run("evaluate", speller, "--split", "test")
    assert run("evaluate", speller, "--split", "test", "--data", moved) == expected
    assert expected[0] == 0


def test_evaluation_on_training_data_is_refused(refuses, speller, text):
    refuses(
        f"freerun evaluate: {text}: the model was trained on a part of it; add --split test",
        *("evaluate", speller, "--data", text),
    )


def test_evaluation_on_the_file_of_the_training_split_is_refused(run, refuses, tmp_path):
    files = []
    for name in ("train", "test"):
        path = tmp_path / f"{name}.conll"
        rows = (f"{name}{i} O\nBerlin B-LOC\n\n" for i in range(20))
        path.write_text("".join(rows))
        files += [f"--task.{name}", str(path)]
    output = tmp_path / "model"
    status, _, errors = run("train", "tagging", *files, "--output", output, *MODEL, *TRAINING)
    assert status == 0, errors
    assert run("evaluate", output, "--data", files[3])[0] == 0
    refuses(
        f"freerun evaluate: {files[1]}: the model was trained on it; name another file",
        *("evaluate", output, "--data", files[1]),
    )


OF_MODELS = ("model.safetensors", "freerun.json", "README.md", "codec.json", "SHA256SUMS")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], f"CHECKPOINT is missing: {CHECKPOINT}"),
        (["nowhere"], "nowhere: there is no such directory"),
        (["nowhere", "--data", "x.tsv", "--task.source_columns", "0"],
         "nowhere: there is no such directory"),
        (["."], ".: it is neither a model that freerun trained (there is no codec.json) nor a "
         "Hugging Face model (there is no config.json)"),
        (["{trained}", "--split", "train"], "--split is 'train'; it must be one of test, dev or "
         "null"),
        (["{trained}", "--beam", "0"], "decoding: beam is 0; it must lie in [1, 1024]"),
        (["{trained}", "--length_penalty", "2"], "decoding: length_penalty has no effect on greedy "
         "decoding; set beam above 1"),
        (["{trained}", "--batch_size", "0"], "options: batch_size is 0; it must be at least 1"),
        (["{trained}", "--data", "nowhere"], "nowhere: there is no such file"),
        (["{trained}", "--data", "x", "--split", "dev"], "--data does not apply: the task digits "
         "comes with its data"),
        (["{trained}", "--json", "no/file.json"], "--json is 'no/file.json'; there is no folder "
         "no"),
        *((["{trained}", "--json", f"{{trained}}/{name}"], f"--json is '{{trained}}/{name}', a "
           "file of a model; name another file") for name in OF_MODELS),
    ],
)  # fmt: skip
def test_errors(refuses, trained, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    words = [word.format(trained=trained) for word in words]
    refuses(f"freerun evaluate: {message.format(trained=trained)}", "evaluate", *words)


def test_a_link_into_no_folder_is_refused_before_anything_is_computed(refuses, trained, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to("nowhere/found.json")
    folder = tmp_path.resolve() / "nowhere"
    message = f"freerun evaluate: --json is '{link}'; there is no folder {folder}"
    refuses(message, "evaluate", trained, "--json", str(link))


def test_where_training_has_none_of_the_target_tokens_all_is_wrong(run, tmp_path):
    (tmp_path / "train.txt").write_text("a B-X\nb I-X\n\n" * 4)
    (tmp_path / "test.txt").write_text("a O\nb B-Y\n\n" * 4)
    files = ["--task.train", tmp_path / "train.txt"]
    files += [w for name in ("dev", "test") for w in (f"--task.{name}", tmp_path / "test.txt")]
    words = [*files, "--output", tmp_path / "run", *MODEL, *TRAINING]
    status, _, errors = run("train", "tagging", *words)
    assert status == 0, errors
    status, output, errors = run("evaluate", tmp_path / "run", "--json", tmp_path / "found.json")
    assert status == 0, errors
    assert output.endswith("which is not how it runs: training has none of the target tokens\n")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["metrics"] == {"chunk_f1": 0, "hamming_error": 1, "exact_match": 0}
    assert found["teacher_forced_loss"] is found["teacher_forced_perplexity"] is None


@pytest.fixture
def copy(trained, tmp_path):
    """The trained model, to be damaged, without its digests."""
    ignored = shutil.ignore_patterns("check*", "SHA256SUMS")
    return shutil.copytree(trained, tmp_path / "copy", ignore=ignored)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_truncated_weights(run, copy, command):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    status, output, errors = run(command, copy)
    assert (status, output) == (2, "")
    # What follows is in the words of safetensors.
    assert errors.startswith(f"freerun {command}: {path}: truncated or damaged (")


def test_a_folder_without_a_record(refuses, copy):
    (copy / "freerun.json").unlink()
    path = copy.parent / "freerun.json"
    refuses(
        f"freerun evaluate: {path}: there is no such file; is {copy.parent} a checkpoint?",
        *("evaluate", copy),
    )


def test_a_record_of_an_unknown_task(refuses, copy):
    path = copy / "freerun.json"
    path.write_text(edit_record(path).replace('"name": "digits"', '"name": "digit"'))
    refuses(
        f"freerun evaluate: {path}: unknown task 'digit'; did you mean 'digits'?", "evaluate", copy
    )
    path.write_text(
        path.read_text()
        .replace('"name": "digit"', '"name": "digits"')
        .replace('"settings": {', '"settings": {"size": 3,', 1)
    )
    refuses(
        f"freerun evaluate: {path}: task digits: unknown setting 'size'; did you mean 'dev_size'?",
        *("evaluate", copy),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json", "{folder}"], "--json is '{folder}', which is a folder; name a file in it"),
        (["--json", ""], "--json is empty; it must be a FILE"),
        (["--length_penalty", "1e308", "--beam", "2"],
         "decoding: length_penalty is 1e+308; it must lie in [0, 10]"),
    ],
)  # fmt: skip
def test_hostile_options(refuses, trained, tmp_path, words, message):
    words = [word.format(folder=tmp_path) for word in words]
    refuses("freerun evaluate: " + message.format(folder=tmp_path), "evaluate", trained, *words)
