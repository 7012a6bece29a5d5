"""`freerun evaluate` and `freerun diagnose` of Hugging Face models that freerun did not train."""

import json

import pytest

from freerun.data.tables import FORMATS
from freerun.evaluation import (
    Decoding,
    compare_continuations,
    evaluate,
    measure_accumulated_errors,
    measure_exposure_bias,
)
from freerun.models.settings import PretrainedSettings
from freerun.report.diagnosis import describe_accumulated_errors, describe_continuations
from freerun.tasks import Pairs
from freerun.training.tasks import load_measured, load_oracle
from tests.cli.pretrained import save_causal, save_seq2seq
from tests.tasks.tiny_tokenizers import byte_tokenizer

SAVE = {"causal": save_causal, "seq2seq": save_seq2seq}
ROWS = [{"source": f"{a} and {b}", "target": f"{b} {a}"} for a in "abcde" for b in "fghij"]
TEXT = "\n\n".join(
    f"{word} this is what a paragraph of some length looks like" for word in "abcdef"
)


@pytest.fixture
def rows(tmp_path):
    """A file of rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("kind", SAVE)
def test_rows_are_read_as_training_would_read_them(run, tmp_path, rows, kind):
    folder = tmp_path / "model"
    SAVE[kind](folder)
    settings = PretrainedSettings(path=str(folder))
    task = Pairs(data=str(rows), dev_size=1, test_size=1)
    codec = settings.load(task).codec
    examples = codec.encode(ROWS)
    policy = settings.build(codec).eval()
    figures = tmp_path / "found.json"

    words = [folder, "--data", rows, "--json", figures]
    status, output, errors = run("evaluate", *words)
    assert (status, errors) == (0, "")
    assert output.startswith(f"pairs, {rows}, 25 examples, free-running, greedy:\n")
    expected = evaluate(policy, task, codec, examples).metrics
    assert json.loads(figures.read_text())["metrics"] == pytest.approx(expected)

    status, output, errors = run("diagnose", *words)
    assert (status, errors) == (0, "")
    found = measure_exposure_bias(policy, examples)
    saved = json.loads(figures.read_text())
    assert saved["after_own"]["value"] == pytest.approx(found.after_own.value)
    assert saved["tokens"] == found.tokens


def test_text_is_read_as_the_task_of_text_does(run, tmp_path):
    folder, path = tmp_path / "model", tmp_path / "text.txt"
    save_causal(folder)
    path.write_text(TEXT)
    status, output, errors = run("evaluate", folder, "--data", path)
    assert (status, errors) == (0, "")
    assert output.startswith(f"text, {path}, 6 examples, free-running, greedy:\n")
    assert "MS-Jaccard" in output or "ms_jaccard" in output


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_mistakes_say_what_would_be_right(refuses, tmp_path, rows, command):
    empty, folder, bare = (tmp_path / name for name in ("empty", "model", "bare"))
    empty.mkdir()
    save_causal(folder)
    save_causal(bare, tokenizer=False)
    refuses(
        f"freerun {command}: {empty}: it is neither a model that freerun trained (there is no "
        "codec.json) nor a Hugging Face model (there is no config.json)",
        *(command, empty, "--data", rows),
    )
    refuses(
        f"freerun {command}: --data is missing: freerun did not train {folder}, so name a file to "
        f"measure it on: of rows ({', '.join(FORMATS)}), or of text",
        *(command, folder),
    )
    refuses(
        f"freerun {command}: --split does not apply: freerun did not train {folder}",
        *(command, folder, "--data", rows, "--split", "dev"),
    )
    refuses(
        f"freerun {command}: {bare}: there is no tokenizer beside the model",
        *(command, bare, "--data", rows),
    )
    refuses(
        f"freerun {command}: nowhere.csv: there is no such file",
        *(command, folder, "--data", "nowhere.csv"),
    )
    rows.write_text("")
    refuses(f"freerun {command}: {rows}: the file is empty", *(command, folder, "--data", rows))


def test_own_text_is_compared_with_real_text(run, tmp_path):
    folder, path, figures = tmp_path / "model", tmp_path / "text.txt", tmp_path / "found.json"
    save_causal(folder)
    paragraph = "This paragraph has more than the tokens of a prompt, and some that follow. " * 2
    path.write_text("\n\n".join(f"{i} {paragraph}"[:58] for i in range(9)))
    page = tmp_path / "page.html"
    words = ["--data", path, "--json", figures, "--draws", "9", "--report", page]
    status, output, errors = run("diagnose", folder, *words)
    assert (status, errors) == (0, "")
    measured = load_measured(str(folder), None, str(path))
    found = compare_continuations(measured.policy, measured.examples, draws=9)
    for line in describe_continuations(found):
        assert line in output
    saved = json.loads(figures.read_text())
    assert saved["lengths"] == found.lengths
    assert saved["own_repetition"] == pytest.approx(found.own_repetition)
    assert "Repetition by length" in page.read_text()


@pytest.mark.parametrize("kind", SAVE)
def test_an_oracle_judges_a_model_with_the_same_tokens(run, tmp_path, rows, kind):
    folder, oracle = tmp_path / "model", tmp_path / "oracle"
    SAVE[kind](folder)
    SAVE[kind](oracle, seed=1)
    figures, page = tmp_path / "found.json", tmp_path / "page.html"
    words = ["--data", rows, "--draws", "20", "--sample", "--seed", "3", "--json", figures]
    status, output, errors = run(
        *("diagnose", folder, "--oracle", oracle, "--report", page, *words)
    )
    assert (status, errors) == (0, "")
    measured = load_measured(str(folder), None, str(rows))
    expected = measure_accumulated_errors(
        measured.policy,
        load_oracle(str(oracle), measured),
        measured.examples,
        decoding=Decoding(sample=True, seed=3),
        seed=3,
        draws=20,
    )
    assert expected.after_own.value > 0
    for line in describe_accumulated_errors(expected):
        assert line in output
    saved = json.loads(figures.read_text())
    assert saved["regret_by_length"] == pytest.approx(expected.regret_by_length)
    assert saved["oracle"] == str(oracle)
    assert "Accumulated errors by length" in page.read_text()

    status, output, errors = run("diagnose", folder, "--oracle", folder, *words)
    assert (status, errors) == (0, "")
    assert json.loads(figures.read_text())["after_own"]["value"] == 0


def test_an_oracle_with_other_tokens_is_refused(refuses, tmp_path, rows):
    folder, other = tmp_path / "model", tmp_path / "other"
    save_causal(folder)
    save_causal(other)
    byte_tokenizer(size=270).save_pretrained(other)
    asked = "diagnose", folder, "--data", rows, "--oracle"
    refuses(
        f"freerun diagnose: {other}: its tokenizer has other tokens than the model; an oracle must "
        "have the same",
        *(*asked, other),
    )
    refuses("freerun diagnose: nowhere: there is no such folder", *asked, "nowhere")
    refuses(
        "freerun diagnose: cost and oracle exclude each other; an oracle judges without a cost",
        *(*asked, other, "--cost", "hamming"),
    )
