"""The scripts in examples/ still do what they say: draw pictures, and train models."""

import re
import runpy
import sys
from importlib import import_module

import pytest
import torch
import yaml

from freerun.methods import DifferentiableScheduledSampling
from freerun.models.settings import RecurrentSettings
from freerun.tasks import Digits, Ocr
from freerun.training import TrainingSettings, fit, load_policy
from tests.helpers import tiny_policy
from tests.pages import ROOT
from tests.training.children import together
from tests.training.huggingface import example

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("script", "given", "pictures"),
    [
        ("drawings", ".", ["relaxed_decoder.png", "roll_out.png"]),
        ("target_distribution", "target_distribution.png", ["target_distribution.png"]),
    ],
)
def test_pictures_are_drawn(script, given, pictures, tmp_path):
    runpy.run_path(str(ROOT / "examples" / f"{script}.py"))["main"](str(tmp_path / given))
    assert sorted(path.name for path in tmp_path.iterdir()) == pictures
    for picture in pictures:
        drawn = (tmp_path / picture).read_bytes()
        assert drawn.startswith(PNG)
        assert (ROOT / "docs" / "methods" / picture).read_bytes().startswith(PNG)


def test_the_drawing_of_roll_outs_says_what_they_cost():
    drawings = runpy.run_path(str(ROOT / "examples" / "drawings.py"))
    costs = [drawings["errors"]("sp" + t + rest) for t, rest in drawings["LEARNED"].items() if rest]
    assert costs == [3, 0, 3, 4, 2]
    assert [drawings["completion"](p) for p in ("spa", "spe", "spl")] == ["ll", "ll", "l"]


@pytest.fixture
def run(monkeypatch):
    """A script's main, as where Python runs it: what stands beside it can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    before = set(sys.modules)
    yield lambda name, *given: import_module(name).main(given)
    for path in (ROOT / "examples").glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


def test_errors_that_a_task_does_not_list_may_be_random(run, monkeypatch, capsys):
    script = import_module("planted_errors")
    monkeypatch.setattr(script, "load_policy", lambda folder: (tiny_policy(), None))
    monkeypatch.setattr(script, "load_examples", lambda *given: (Ocr(data="x"), None, ""))
    with pytest.raises(SystemExit):
        run("planted_errors", "a folder")
    assert capsys.readouterr().err.endswith(
        "error: a folder: the task ocr names no plausible mistakes; use --tokens random\n"
    )


@pytest.fixture
def questions(tmp_path):
    """A file of sums."""
    path = tmp_path / "questions.txt"
    lines = [f"What is {a} + {b}?\n{a + b}\n" for a in range(10) for b in range(10)]
    path.write_text("".join(lines))
    return str(path)


def test_a_causal_model_answers_questions(run, questions, tmp_path):
    output = str(tmp_path / "run")
    metrics = run("causal_arithmetic", "--data", questions, "--updates", "3", "--output", output)
    assert metrics["eval_exact_match"] <= 1
    policy, codec = load_policy(output)
    assert codec.shared
    assert type(policy).__name__ == "CausalPolicy"


@pytest.mark.parametrize("own", [False, True], ids=["numbers", "a file"])
def test_an_encoder_decoder_translates(run, tmp_path, own):
    given = ["--updates", "2", "--output", str(tmp_path / "run")]
    if own:
        lines = [f"wort {i}\tword {i}" for i in range(10)]
        (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
        given += ["--data", str(tmp_path / "pairs.tsv")]
    assert run("translation", *given)["eval_character_error"] >= 0
    policy, _ = load_policy(tmp_path / "run")
    assert type(policy).__name__ == "Seq2SeqPolicy"


def test_adapters_are_trained_and_merged(run, tmp_path):
    run("lora", "--updates", "2", "--output", str(tmp_path))
    assert (tmp_path / "adapters" / "adapter_model.safetensors").exists()
    merged = load_policy(tmp_path / "adapters")[0].model.merge_and_unload()
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, merged.state_dict()[name])


@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_two_processes_as_accelerate_would_start_them(questions, tmp_path, config):
    """What the launcher makes of the shipped configurations are variables of the environment."""
    found = yaml.safe_load((ROOT / "examples" / "accelerate" / f"{config}.yaml").read_text())
    variables = {}
    if found["distributed_type"] == "FSDP":
        settings = {name.upper(): str(value) for name, value in found["fsdp_config"].items()}
        variables = {"ACCELERATE_USE_FSDP": "true", **settings}
    given = ["--data", questions, "--updates", "2", "--output", str(tmp_path / "run")]
    children = together(found["num_processes"], example, "causal_arithmetic", given, variables)
    assert children == [0, 0]
    load_policy(tmp_path / "run")


@pytest.mark.filterwarnings("ignore:the cost distance is a Python function")
@pytest.mark.parametrize("method", ["mle", "searnn"])
def test_a_model_of_molecules_learns_from_a_cost_of_chemistry(run, tmp_path, method):
    pytest.importorskip("rdkit")
    from tiny import character_tokenizer, seq2seq_model  # beside the script

    lines = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "CCCl", "CC#N", "C1CCCCC1", "OCCO"]
    (tmp_path / "molecules.smi").write_text("\n".join(lines) + "\n")
    tokenizer = character_tokenizer(lines)
    seq2seq_model(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    paths = [str(tmp_path / name) for name in ("model", "molecules.smi")]
    options = ["--updates", "1", "--held-out", "2", "--output", str(tmp_path / "run")]
    found = run("molecules", *paths, "--method", method, *options)
    assert 0 <= found["eval_same_molecule"] <= found["eval_valid"] <= 1


def test_distances_of_molecules():
    pytest.importorskip("rdkit")
    molecules = runpy.run_path(str(ROOT / "examples" / "molecules.py"))
    assert molecules["distance"]("OCC", "CCO") == 0
    assert molecules["distance"]("C1CC", "CCO") == 1  # the ring is not closed
    assert 0 < molecules["distance"]("CCN", "CCO") < 1
    assert molecules["valid"](["OCC", "C1CC"], ["CCO", "CCO"]) == 0.5
    assert molecules["same_molecule"](["OCC", "CCN"], ["CCO", "CCO"]) == 0.5


def test_data_sets_become_tables(run, tmp_path, capsys):
    files = {
        "histnorm": "VND\tund\nſeind\tsind\n¶\t¶\n\nallein\n3\t3\n",
        "scan": "IN: jump twice OUT: I_JUMP I_JUMP\n",
        "ocr": "Call me Ishmael. Some years ago\nshort\n",
    }
    found = {}
    for kind, text in files.items():
        data, output = tmp_path / f"{kind}.txt", tmp_path / f"{kind}.tsv"
        data.write_text(text, encoding="utf-8")
        run("prepare_pairs", kind, str(data), str(output), "--noise", "1")
        found[kind] = [line.split("\t") for line in output.read_text("utf-8").splitlines()]
    assert found["histnorm"] == [["vnd", "und"], ["ſeind", "sind"], ["0", "0"]]
    assert found["scan"] == [["jump twice", "I_JUMP I_JUMP"]]
    ((source, target),) = found["ocr"]
    assert target == "Call me Ishmael. Some years ago"
    assert source != target
    *_, count, error = capsys.readouterr().out.splitlines()
    assert count.endswith("ocr.tsv: 1 rows")
    assert re.fullmatch(r"character error of the sources: \d+\.\d\d%", error)
    data.write_text("Call me Ishmael. Some years\n")
    run("prepare_pairs", "ocr", str(data), str(output), "--noise", "0", "--words", "3")
    parts = ["Call me Ishmael."]
    assert output.read_text() == "".join(f"{part}\t{part}\n" for part in parts)


def test_hard_mixtures_are_read_as_tokens_are(run, tmp_path):
    task = Digits(train_size=50, dev_size=20, test_size=20)
    method = DifferentiableScheduledSampling()
    model = RecurrentSettings(hidden_size=8, embedding_size=8)
    training = TrainingSettings(updates=2, batch_size=8, evaluate_every=2)
    output = str(tmp_path / "run")
    fit(task, task.load(), method, model=model, training=training, output=output)
    picture = tmp_path / "picture.png"
    found = run("relaxed_tokens", output, str(picture))[output]
    assert picture.read_bytes().startswith(PNG)
    assert found["mixtures"] == found["tokens"]
    assert found["spread"] == 0
    assert found["distance"] == pytest.approx(0, abs=1e-3)  # cdist subtracts squares
    assert 0 < found["reference"] <= 1
