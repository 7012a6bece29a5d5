"""Withdrawn tokens, as `freerun predict` shows them and `evaluate` counts them."""

from __future__ import annotations

import io
import json
import re
import shutil

import pytest
import torch
from rich.console import Console

from freerun.evaluation import Decoding, decode_examples
from freerun.models.backspace import with_backspace
from freerun.report.live import Traces
from freerun.report.trace import format_colored, plain, trace
from freerun.training import load_policy

LINES = ["the quikc", "bronw fox", "jump", "s over the", "lazy dgo"]
SAMPLE = ["--sample", "--seed", "2"]


@pytest.fixture(scope="session")
def eraser(tmp_path_factory, speller):
    """The folder of a model of spelling that withdraws a token now and then."""
    folder = tmp_path_factory.mktemp("eraser") / "model"
    shutil.copytree(speller, folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    policy, codec = load_policy(speller)
    codec = codec.with_backspace()
    policy = with_backspace(policy, codec)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        policy.output.bias[codec.target.backspace] += 4
    policy.save_pretrained(str(folder))
    codec.save_pretrained(str(folder))
    return folder


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture(scope="session")
def found(eraser):
    """A function that gives the codec, and what is written for the lines."""

    def find(**decoding):
        policy, codec = load_policy(eraser)
        sources = codec.read(LINES, "lines")
        return codec, decode_examples(policy, sources, decoding=Decoding(**decoding))

    return find


@pytest.mark.parametrize("flag", ["--show-backspaces", "--show_backspaces"])
@pytest.mark.parametrize("size", ["2", "256"])
def test_output_to_a_pipe_is_in_plain_notation(run, eraser, source, found, flag, size):
    codec, written = found(sample=True, seed=2)
    words = ["predict", eraser, source, flag, *SAMPLE, "--batch_size", size]
    status, printed, errors = run(*words)
    assert (status, errors) == (0, "")
    traces = [plain(trace(row, codec.target, codec.text)) for row in written.actions]
    assert printed == "".join(f"{line}\n" for line in traces)
    assert sum("<]" in line for line in traces) > 1


def test_without_the_flag_only_the_remaining_text_is_printed(run, eraser, source, found):
    for words, decoding in ((SAMPLE, {"sample": True, "seed": 2}), ([], {})):
        codec, written = found(**decoding)
        expected = "".join(f"{codec.write(row, [])}\n" for row in written.hypotheses)
        status, output, errors = run("predict", eraser, source, *words)
        assert (status, output) == (0, expected)
        assert errors.startswith("note: outputs of ") or not errors


def test_a_terminal_shows_rows_live_and_in_color(eraser, found):
    policy, codec = load_policy(eraser)
    screen = io.StringIO()
    console = Console(
        file=screen, width=60, height=24, force_terminal=True, color_system="standard", _environ={}
    )
    traces = Traces(policy, codec, Decoding(sample=True, seed=2), console)
    assert traces.batch_size(256) == 22
    assert traces.batch_size(4) == 4
    sources = codec.read(LINES, "lines")
    traces.show(sources.batch(range(5)))
    _, written = found(sample=True, seed=2)
    with console.capture() as expected:
        for row in written.actions:
            console.print(format_colored(trace(row, codec.target, codec.text)), soft_wrap=True)
    shown = screen.getvalue()
    assert shown.endswith(expected.get())
    assert "\x1b[9;31m" in expected.get()
    live = shown.removesuffix(expected.get())
    # What was drawn last, before it was erased for good, says the same as what stays.
    assert re.sub(r"\s", "", plain_text(expected.get())) in re.sub(r"\s", "", plain_text(live))


def plain_text(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_output_to_a_dumb_terminal_is_in_plain_notation(eraser):
    policy, codec = load_policy(eraser)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, _environ={"TERM": "dumb"})
    Traces(policy, codec, Decoding(), console).show(codec.read(LINES, "lines").batch([0]))
    assert "\x1b" not in screen.getvalue()


def test_the_notation_is_in_the_help(run):
    status, printed, _ = run("predict", "--help")
    assert status == 0
    assert "as in 12[3<]4: 3 was written" in " ".join(printed.split())
    assert "--show_backspaces" in printed


def test_a_model_without_backspace_is_refused(refuses, speller, source):
    refuses(
        "freerun predict: --show_backspaces: the model has no backspace; behavior_cloning and "
        "sequence_match train models that have one",
        *("predict", speller, source, "--show-backspaces"),
    )


def test_planted_errors_are_counted(run, eraser, text, tmp_path):
    path = tmp_path / "figures.json"
    words = ["evaluate", eraser, "--split", "test", "--data", text, "--noise", "0.2"]
    status, printed, errors = run(*words, "--json", path)
    assert (status, errors) == (0, "")
    figures = json.loads(path.read_text())
    planted, gone = (figures["backspaces"][name] for name in ("planted", "withdrawn"))
    assert planted > gone > 0
    assert figures["metrics"]["withdrawn"] == gone / planted
    assert f"planted errors: {planted:,}, of which {gone:,} withdrawn\n" in printed
    assert "free-running, greedy decoding (errors planted at a rate of 0.2, seed 0):\n" in printed


def test_evaluate_counts_backspaces(run, eraser, text, tmp_path):
    path = tmp_path / "figures.json"
    words = ["evaluate", eraser, "--split", "dev", "--data", text, *SAMPLE, "--json", path]
    status, printed, errors = run(*words)
    assert (status, errors) == (0, "")
    figures = json.loads(path.read_text())
    counts, metrics = figures["backspaces"], figures["metrics"]
    assert counts["withdrawals"] > counts["rewritten"] > 0
    assert metrics["backspace_rate"] == counts["backspaces"] / counts["actions"]
    assert metrics["rewritten"] == counts["rewritten"] / counts["withdrawals"]
    assert metrics["right_after"] == counts["right"] / counts["rewritten"]
    assert figures["decoding"]["sample"]
    assert figures["decoding"]["seed"] == 2
    assert "free-running, sampling (seed 2):\n" in printed
    assert f"  backspace rate   {metrics['backspace_rate'] * 100:6.2f} %\n" in printed
    assert f"backspaces: {counts['backspaces']:,} of {counts['actions']:,} actions\n" in printed
    assert (
        f"withdrawn tokens: {counts['withdrawals']:,}, of which {counts['rewritten']:,} became "
        f"another, {counts['right']:,} of them right\n"
    ) in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sample", "--beam", "2"], "decoding: beam and sample exclude each other; choose one"),
        (["--top_k", "3"], "decoding: top_k has no effect on its own; set sample or contrastive"),
        (["--beam", "2"], "decoding: beam search cannot withdraw tokens, and this vocabulary has a "
         "backspace: decode greedily or sample"),
        (["--contrastive", "0.6", "--top_k", "3"], "decoding: contrastive search cannot "
         "withdraw tokens, and this vocabulary has a backspace: decode greedily or sample"),
        (["--temperature", "0", "--sample"], "decoding: temperature is 0.0; it must be above 0 "
         "(greedy decodes at 0)"),
    ],
)  # fmt: skip
def test_errors(refuses, eraser, source, words, message):
    refuses(f"freerun predict: {message}", "predict", eraser, source, *words)
