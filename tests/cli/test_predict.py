"""`freerun predict`: from a file or standard input to lines of output."""

import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from freerun.cli.main import main
from freerun.evaluation import Decoding, decode_hypotheses
from freerun.training import load_policy
from tests.helpers import edit_record

LINES = ["the quikc", "bronw fox", "jump", "s over the", "lazy dgo"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture
def piped(monkeypatch):
    """A function that makes bytes the standard input."""

    def pipe(raw):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))

    return pipe


def expected(speller, **decoding):
    policy, codec = load_policy(speller)
    sources = codec.read(LINES, "lines")
    rows = decode_hypotheses(policy, sources, decoding=Decoding(**decoding))
    written = zip(rows, sources.lines, strict=True)
    return "".join(codec.write(row, lines) + "\n" for row, lines in written)


@pytest.mark.parametrize("size", ["1", "2", "256"])
def test_every_line_of_a_file_is_answered_in_order(run, speller, source, size):
    answer = expected(speller)
    assert len(answer.splitlines()) == len(LINES)
    assert run("predict", speller, source, "--batch_size", size) == (0, answer, "")


@pytest.mark.parametrize("words", [[], ["-"]])
def test_standard_input_is_the_default(run, speller, source, piped, words):
    piped(source.read_bytes())
    assert run("predict", speller, *words) == (0, expected(speller), "")


def test_beam_search(run, speller, source):
    answer = expected(speller, beam=3, length_penalty=0.0)
    words = ["--beam", "3", "--length_penalty", "0"]
    assert run("predict", speller, source, *words) == (0, answer, "")


def test_samples_do_not_depend_on_how_the_input_is_cut(run, speller, source):
    words = ["--sample", "--seed", "3", "--temperature", "3"]
    found = [run("predict", speller, source, *words, "--batch_size", n)[1] for n in ("1", "2", "9")]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].splitlines())) > 1


def test_answers_are_written_as_lines_come(speller):
    command = [sys.executable, "-m", "freerun", "predict", speller, "--batch_size", "1"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    answers = []
    for line in LINES:
        process.stdin.write(line + "\n")
        answers.append(process.stdout.readline())
    process.stdin.close()
    assert "".join(answers) == expected(speller)
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def test_closed_standard_input(refuses, speller, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    refuses("freerun predict: standard input is closed", "predict", speller)


def test_an_empty_file(refuses, speller, tmp_path, piped):
    path = tmp_path / "empty.txt"
    path.write_text("")
    refuses(f"freerun predict: {path}: the file is empty", "predict", speller, path)
    piped(b"")
    refuses("freerun predict: standard input: the file is empty", "predict", speller)


def test_lines_that_cannot_be_read_are_named(run, refuses, speller, tmp_path, piped):
    path = tmp_path / "long.txt"
    path.write_text("short\nfar too long for it\n")
    refuses(
        f"freerun predict: {path}, line 2: 19 characters; the model reads at most 10, so break "
        "the line",
        *("predict", speller, path),
    )
    refuses_after = ("predict", speller, path, "--batch_size", "1")
    status, output, errors = run(*refuses_after)
    assert (status, output.count("\n")) == (2, 1), "what comes before it is answered"
    assert errors.startswith(f"freerun predict: {path}, line 2: 19 characters")
    piped(b"fine\n\xff\n")
    refuses(
        "freerun predict: standard input, line 2: byte 0xff at column 1 is not UTF-8; save the "
        "file as UTF-8",
        *("predict", speller),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "CHECKPOINT is missing: the folder of a trained model, or of any Hugging Face model"),
        (["nowhere"], "nowhere: there is no such directory"),
        (["nowhere", "--max_new_tokens", "4"], "nowhere: there is no such directory"),
        (
            ["{speller}", "--sample", "--seed", "-5"],
            "decoding: seed is -5; it must be in [0, 2^32)",
        ),
        (["{speller}", "nowhere.txt"], "nowhere.txt: there is no such file"),
        (["{speller}", "--bean", "3"], "unknown option --bean; did you mean '--beam'?"),
        (["{speller}", "--beam", "many"], "--beam is 'many'; it must be a whole number"),
    ],
)
def test_errors(refuses, speller, words, message):
    words = [word.format(speller=speller) for word in words]
    refuses(f"freerun predict: {message}", "predict", *words)


def test_a_closed_pipe_is_not_an_error(speller, tmp_path):
    """As in `freerun predict model | head -1`."""
    path = tmp_path / "many.txt"
    path.write_text("the quikc\n" * 3_000)
    command = [sys.executable, "-m", "freerun", "predict", speller, path, "--batch_size", "500"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"")


def test_a_task_that_is_not_found_is_told(run, speller, source, tmp_path, caplog):
    folder = tmp_path / "model"
    shutil.copytree(speller, folder)
    record = folder / "freerun.json"
    task = {**json.loads(record.read_text())["task"], "name": "gone.py:Gone"}
    edit_record(record, task=task)
    status, output, _ = run("predict", folder, source)
    assert (status, output) == (0, expected(speller))
    assert "there is no file gone.py" in caplog.text
    assert "so every line is read as plain text" in caplog.text


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """The folder of a model of pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = "".join(f"say {i}\tit is {i % 7}\n" for i in range(30))
    (folder / "rows.tsv").write_text(f"prompt\tcompletion\n{rows}")
    settings = {"task.target_tokens": "characters", "model.hidden_size": 4, "training.updates": 1}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    output = str(folder / "run")
    main(["train", "pairs", "--data", str(folder / "rows.tsv"), *words, "--output", output])
    return output


def test_scores_and_n_best_outputs(run, pairs, write):
    path = write("say 1\nsay 2\n", "a.txt")
    plain = run("predict", pairs, path)[1].splitlines()
    status, output, _ = run("predict", pairs, path, "--scores", "--batch_size", "1")
    rows = [line.split("\t") for line in output.splitlines()]
    assert (status, [(row[0], row[2]) for row in rows]) == (0, [*zip("12", plain, strict=True)])
    assert all(float(row[1]) < 0 for row in rows)
    _, output, errors = run("predict", pairs, path, "--beam", "3", "--n_best", "2", "--json")
    for line, source in zip(output.splitlines(), ("say 1", "say 2"), strict=True):
        found = json.loads(line)
        assert found["source"] == source
        assert list(found["outputs"][0]) == ["text", "log_prob", "score", "tokens", "complete"]
        assert found["outputs"][0]["score"] >= found["outputs"][1]["score"]
    # The model was trained for one update, and does not end.
    assert errors == (
        "note: outputs of 2 of 2 sources reached the maximum length and are cut off: 1, 2\n"
    )
    message = (
        "freerun predict: n_best is 2; it needs sample, or a beam of at least 2, and beam is 1"
    )
    assert run("predict", pairs, path, "--n_best", "2")[::2] == (2, f"{message}\n")


def test_rows_of_tables_are_answered(run, pairs, write):
    """And not their lines, of which the first has the names of the columns."""
    expected = run("predict", pairs, write('{"prompt": "say 1"}\n{"prompt": "say 2"}', "a.jsonl"))
    assert expected[0] == 0
    assert [json.loads(line)["prompt"] for line in expected[1].splitlines()] == ["say 1", "say 2"]
    for name, text in (
        ("a.csv", "prompt\nsay 1\nsay 2\n"),
        ("a.csv.gz", "prompt\nsay 1\nsay 2\n"),
        ("a.tsv", "prompt\nsay 1\nsay 2\n"),
        ("a.json", '[{"prompt": "say 1"},\n {"prompt": "say 2"}]'),
    ):
        assert run("predict", pairs, write(text, name), "--batch_size", "1") == expected
    code, _, errors = run("predict", pairs, write('{"prompt": "say', "b.jsonl"))
    assert code == 2
    assert "b.jsonl, line 1: broken JSON" in errors
    path = write('prompt\n"say\n1"\nsay 2\n""\n', "c.csv")
    for size in ("1", "64"):
        code, _, errors = run("predict", pairs, path, "--batch_size", size)
        assert (code, errors) == (2, f"freerun predict: {path}, line 5: the prompt is empty\n")
