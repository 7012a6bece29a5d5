"""`freerun evaluate` and `freerun diagnose` of Hugging Face models that freerun did not train."""

import json

import pytest
from safetensors.torch import load_file

from freerun.data.tables import FORMATS
from freerun.evaluation import (
    Decoding,
    compare_continuations,
    decode_hypotheses,
    evaluate,
    measure_accumulated_errors,
    measure_exposure_bias,
)
from freerun.metrics import mauve
from freerun.models.settings import PretrainedSettings
from freerun.report.diagnosis import describe_accumulated_errors, describe_continuations
from freerun.settings import SettingError
from freerun.study.diagnosis import make_mauve
from freerun.tasks import Pairs
from freerun.training.tasks import load_measured, load_oracle, load_predictor
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


@pytest.mark.parametrize("names", [False, True])
def test_columns_are_chosen_as_in_training(run, refuses, tmp_path, names):
    """Also those of a file whose name ends like text; the first line may be a row or names."""
    folder, table, figures = (tmp_path / name for name in ("model", "table.txt", "found.json"))
    save_causal(folder)
    lines = ["id\twrong\tright"] if names else []
    lines += [f"{n}\t{row['source']}\t{row['target']}" for n, row in enumerate(ROWS)]
    table.write_text("\n".join(lines) + "\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source, target = ("wrong", "right") if names else ("1", "2")
    chosen = ["--task.source_columns", source, "--task.target_column", target]
    for command in ("evaluate", "diagnose"):
        saved = []
        for words in (["--data", rows], ["--data", table, *chosen]):
            status, _, errors = run(command, folder, *words, "--json", figures)
            assert (status, errors) == (0, "")
            saved.append(json.loads(figures.read_text()) | {"examples_of": ""})
        assert saved[0] == saved[1]
    pairs = {"source_columns": ["wrong"] if names else [1], "target_column": target}
    task = load_measured(str(folder), None, str(table), pairs=pairs).task
    assert task.target_column == ("right" if names else 2)
    with pytest.raises(SettingError, match="dev_size does not apply: it must be one of"):
        load_measured(str(folder), None, str(table), pairs={"dev_size": 1})
    refuses(
        f"freerun evaluate: {table}: no column left; it has id, wrong, right"
        if names
        else f"freerun evaluate: {table}: no column 5; there are 3, counted from 0",
        *("evaluate", folder, "--data", table, "--task.source_columns", "left" if names else "5"),
        *chosen[2:],
    )


def test_the_extension_of_rows_may_be_in_capitals(tmp_path):
    folder, path = tmp_path / "model", tmp_path / "ROWS.TSV"
    save_causal(folder)
    path.write_text("".join(f"{row['source']}\t{row['target']}\n" for row in ROWS))
    assert load_measured(str(folder), None, str(path)).task.name == "pairs"


def test_columns_are_those_of_the_task_if_freerun_trained_the_model(refuses, trained, rows):
    refuses(
        "freerun diagnose: header does not apply: freerun trained the model, and its task says how "
        "to read rows",
        *("diagnose", trained, "--data", rows, "--task.header", "true"),
    )


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
        f"measure it on: of rows ({', '.join(FORMATS)}), or of text; or a folder of images or "
        "sounds",
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
    status, output, errors = run("diagnose", folder, *words, "--mauve", folder)
    assert (status, errors) == (0, "")
    measured = load_measured(str(folder), None, str(path))
    found = compare_continuations(measured.policy, measured.examples, draws=9)
    for line in describe_continuations(found):
        assert line in output
    saved = json.loads(figures.read_text())
    assert saved["lengths"] == found.lengths
    assert saved["own_repetition"] == pytest.approx(found.own_repetition)
    assert len(saved["mauve"]) == len(found.lengths)
    assert "\nMAUVE, 8 tokens " in output
    assert "Repetition by length" in page.read_text()


def test_mauve_is_that_of_the_metric_with_prompts(tmp_path):
    folder, path = str(tmp_path / "model"), tmp_path / "text.txt"
    save_causal(folder)
    text = [f"{i}{'abcdefghi'[i:]}, a text that goes on and on and on and on" for i in range(9)]
    path.write_text("\n\n".join(text))
    measured = load_measured(folder, None, str(path))
    numbers = [0, 2, 3, 5, 6, 7]
    real = [measured.examples.references[n][:8] for n in numbers]
    own = [row[::-1] for row in real]
    passages = [
        [text[n][:32] + measured.codec.decode(row) for n, row in zip(numbers, rows, strict=True)]
        for rows in (own, real)
    ]
    assert passages[1] == [text[n][:40] for n in numbers]
    compute = make_mauve(measured, folder)
    assert compute(numbers, own, real) == pytest.approx(mauve(*passages, model=folder))


def test_mauve_is_for_text_alone(refuses, tmp_path, rows):
    folder = tmp_path / "model"
    save_causal(folder)
    refuses(
        "freerun diagnose: mauve does not apply: it is for text without a cost or an oracle",
        *("diagnose", folder, "--data", rows, "--mauve", folder),
    )


def test_any_model_predicts(run, refuses, tmp_path, rows, trained):
    folder, prompts = tmp_path / "model", tmp_path / "prompts.txt"
    save_causal(folder)
    prompts.write_text("one and two\nthree\n")
    status, output, errors = run("predict", folder, prompts, "--max_new_tokens", "7")
    assert status == 0
    assert "2 of 2 sources reached the maximum length" in errors
    policy, codec = load_predictor(str(folder), 7)
    outputs = decode_hypotheses(policy, codec.read(["one and two", "three"], "prompts"))
    assert output.splitlines() == [codec.write(row, [""]) for row in outputs]
    assert max(map(len, outputs)) == 7
    status, output, _ = run("predict", folder, rows, "--max_new_tokens", "2")
    assert (status, len(output.splitlines())) == (0, len(ROWS))
    assert "target" in json.loads(output.splitlines()[0])
    refuses(
        "freerun predict: max_new_tokens does not apply: freerun trained the model, whose outputs "
        "have a maximum length",
        *("predict", trained, prompts, "--max_new_tokens", "3"),
    )
    refuses(
        "freerun predict: options: max_new_tokens is 0; it must be at least 1",
        *("predict", folder, prompts, "--max_new_tokens", "0"),
    )


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
        f"freerun diagnose: {other}: its tokenizer has other tokens than the model; it must have "
        "the same",
        *(*asked, other),
    )
    refuses("freerun diagnose: nowhere: there is no such folder", *asked, "nowhere")
    refuses(
        "freerun diagnose: cost and oracle exclude each other; an oracle judges without a cost",
        *(*asked, other, "--cost", "hamming"),
    )


@pytest.mark.parametrize("kind", SAVE)
def test_any_folder_may_be_a_teacher(run, tmp_path, rows, kind):
    """If it has the same tokens, kind of sources, and enough positions; checked before training."""
    folder, teacher, output = (tmp_path / name for name in ("model", "teacher", "out"))
    SAVE[kind](folder)
    SAVE[kind](teacher, seed=1)
    words = ["train", "pairs", "--data", rows, "--model", folder, "--quiet"]
    words += [
        "--training.updates",
        "1",
        "--training.evaluate_every",
        "1",
        "--training.batch_size",
        "4",
    ]
    method = f"gkd:teacher={teacher}"
    assert run(*words, "--output", output, "--method", method)[::2] == (0, "")
    assert not any("teacher" in name for name in load_file(output / "model.safetensors"))
    other = tmp_path / "other"
    SAVE[kind](other)
    byte_tokenizer(size=270).save_pretrained(other)
    wrong = {other: "its tokenizer has other tokens than the model; it must have the same"}
    wrong["nowhere"] = "there is no such folder"
    for place, message in wrong.items():
        found = run(*words, "--output", tmp_path / "no", "--method", f"gkd:teacher={place}")
        assert found == (2, "", f"freerun train: {place}: {message}\n")
