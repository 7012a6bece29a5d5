"""Models of every kind on the command line: trained by every method, compared, inspected."""

import json

import pytest

from freerun.tasks import load_codec
from freerun.training import load_policy
from tests.cli.pretrained import save_causal, save_seq2seq

METHODS = [
    "mle",
    "scheduled_sampling:schedule=constant,k=0.5,passes=2",
    "differentiable_scheduled_sampling",
    "searnn:token_choice=top_k,tokens=2,cells=2",
]
MLE = METHODS[0]
SHORT = [
    *("--training.updates", "2"),
    *("--training.evaluate_every", "1"),
    *("--training.batch_size", "4"),
    *("--training.threads", "1"),
]
SCRATCH = ["--model.hidden_size", "8", "--model.layers", "1", "--model.heads", "2"]
SIZES = ["--task.train_size", "20", "--task.dev_size", "4", "--task.test_size", "4"]
TASK = [*SIZES, "--task.length", "4"]
KINDS = ["causal", "seq2seq", "pretrained causal", "pretrained seq2seq"]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """The folders of pretrained models, by their kind; `bare` has no tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained")
    save_causal(folder / "causal")
    save_seq2seq(folder / "seq2seq")
    save_causal(folder / "bare", tokenizer=False)
    return {name: str(folder / name) for name in ("causal", "seq2seq", "bare")}


def model(kind, pretrained):
    """The flags that name a model."""
    start, _, rest = kind.partition(" ")
    return ["--model", pretrained[rest]] if rest else ["--model", start, *SCRATCH]


@pytest.fixture(scope="session", params=KINDS)
def compared(request, tmp_path_factory, pretrained, text):
    """A comparison of all methods on models of a kind: the kind, the folder and the flags."""
    from freerun.cli import main

    output = tmp_path_factory.mktemp("compared") / "out"
    flags = model(request.param, pretrained)
    words = ["spelling", "--data", str(text), *flags, "--methods", *METHODS]
    words += ["--output", str(output), "--seeds", "1", "--quiet", *TASK, *SHORT]
    assert main(["compare", *words]) == 0
    return request.param, output, flags


def record(folder):
    return json.loads((folder / "freerun.json").read_text())


def test_every_method_trains_every_kind_of_model(compared):
    kind, output, _ = compared
    results = json.loads((output / "results.json").read_text())
    assert list(results["methods"]) == METHODS
    assert results["model"]["kind"] == kind.split()[0]
    folders = [path.parent for path in output.glob("*/seed-0/model.safetensors")]
    weights = {(folder / "model.safetensors").read_bytes() for folder in folders}
    assert len(weights) == len(folders) == len(METHODS), "two methods left the same weights"
    for folder in folders:
        assert record(folder)["results"]
        assert record(folder)["model"] == results["model"]


@pytest.fixture
def trained(compared):
    """A model of each kind that was trained by MLE."""
    return compared[1] / MLE / "seed-0"


def test_trained_models_are_evaluated(compared, trained, run):
    results = json.loads((compared[1] / "results.json").read_text())
    status, output, errors = run("evaluate", trained)
    assert (status, errors) == (0, "")
    figure = results["methods"][MLE]["test"]["character_error"]["mean"]
    assert output.startswith(
        "spelling, test, 4 examples, free-running, greedy:\n"
        f"  character error  {figure * 100:6.2f} %\n"
    )


def test_trained_models_predict(trained, run, tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("thw\nbrno\n")
    status, output, errors = run("predict", trained, path)
    assert (status, errors.partition(":")[0]) in ((0, ""), (0, "note"))  # some are cut off
    policy, codec = load_policy(trained)
    batch = codec.read(["thw", "brno"], "lines").batch([0, 1])
    from freerun.decoding import greedy

    rows = greedy(policy, batch.source).lists(codec.target.eos)
    assert output.splitlines() == [codec.write(row, [line]) for row, line in zip(
        rows, ["thw", "brno"], strict=True
    )]  # fmt: skip


def test_the_costs_of_trained_models(trained, run):
    status, output, errors = run("costs", trained, "--cell", "1")
    assert (status, errors) == (0, "")
    assert output.startswith("spelling, test, example 1 of 4\nsource   ")


def test_a_new_file_is_evaluated_in_the_tokens_of_the_model(trained, run, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("five boxing wizards jump quickly")
    status, output, errors = run("evaluate", trained, "--data", path)
    assert (status, errors) == (0, "")
    assert output.startswith(f"spelling, {path}, 8 examples, free-running, greedy:\n")


def test_training_continues_from_a_trained_model(compared, trained, run, text, tmp_path):
    """By --model, which takes it as it is, or by --init."""
    kind, _, _ = compared
    words = ["train", "spelling", "--data", text, "--quiet", *TASK, *SHORT]
    for flag in ("--model", "--init"):
        output = tmp_path / flag[2:]
        status, _, errors = run(*words, flag, trained, "--output", output)
        assert (status, errors) == (0, "")
        drawn = flag == "--init" and not kind.startswith("pretrained")
        assert record(output)["model"]["kind"] == (kind if drawn else "pretrained")
        assert load_codec(str(output)).target == load_codec(str(trained)).target
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_both_ways_of_naming_the_model_in_yaml(run, text, tmp_path):
    words = ["train", "spelling", "--data", text, "--quiet", *TASK, *SHORT]
    ways = {
        "word": "model: causal\n",
        "kind": "model: {kind: causal, layers: 1, hidden_size: 8, heads: 2}\n",
    }
    small = {"word": SCRATCH, "kind": []}
    found = []
    for name, yaml in ways.items():
        (tmp_path / f"{name}.yaml").write_text(yaml)
        flags = ["--config", tmp_path / f"{name}.yaml", *small[name]]
        status, _, errors = run(*words, *flags, "--output", tmp_path / name)
        assert (status, errors) == (0, "")
        found.append((tmp_path / name / "model.safetensors").read_bytes())
        settings = {"kind": "causal", "hidden_size": 8, "layers": 1, "heads": 2}
        assert settings.items() <= record(tmp_path / name)["model"].items()
    assert found[0] == found[1]


def test_a_flag_overrides_yaml(run, text, tmp_path):
    (tmp_path / "run.yaml").write_text("model: {kind: causal, hidden_size: 16, heads: 2}\n")
    words = ["train", "spelling", "--data", text, "--config", tmp_path / "run.yaml", "--quiet"]
    flags = ["--model", "seq2seq", "--model.layers", "1", "--output", tmp_path / "out"]
    assert run(*words, *flags, *TASK, *SHORT)[0] == 0
    found = record(tmp_path / "out")["model"]
    assert (found["kind"], found["hidden_size"], found["layers"]) == ("seq2seq", 16, 1)


def test_only_adapters_are_trained_and_saved(run, text, tmp_path, pretrained):
    output = tmp_path / "out"
    words = ["train", "spelling", "--data", text, "--quiet", "--output", output, *TASK, *SHORT]
    status, _, errors = run(*words, "--model", pretrained["causal"], "--model.lora", "2")
    assert (status, errors) == (0, "")
    assert (output / "adapter_model.safetensors").exists()
    assert not (output / "model.safetensors").exists()
    assert record(output)["model"]["lora"] == 2
    assert run("evaluate", output)[0] == 0
    policy, _ = load_policy(output)
    named = [name for name, _ in policy.named_parameters() if "lora_" in name]
    assert {name.split(".")[-4] for name in named} == {"c_attn", "c_proj", "c_fc"}
    # And they are gone on from.
    status, _, errors = run(*words, "--output", tmp_path / "again", "--model", output)
    assert (status, errors) == (0, "")
    assert (tmp_path / "again" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["spelling", "--model", "causal", "--model.cell", "gru"], "--model.cell is a setting of "
         "recurrent models, but the model is causal"),
        (["spelling", "--model.heads", "2"], "--model.heads is a setting of causal and seq2seq "
         "models, but the model is recurrent"),
        (["spelling", "--model", "causal", "--model.lora", "4"], "--model.lora is a setting of "
         "pretrained models, but the model is causal"),
        (["spelling", "--model", "{causal}", "--model.layers", "4"], "--model.layers is a setting "
         "of recurrent, causal and seq2seq models, but the model is {causal}"),
        (["spelling", "--config", "cell.yaml"], "cell.yaml, line 3: model.cell is a setting of "
         "recurrent models, but the model is causal"),
        (["spelling", "--config", "list.yaml"], "list.yaml, line 1: model is [causal]; it must be "
         "text"),
        (["spelling", "--model", "causal", "--model.sice", "4"], "unknown option --model.sice; see "
         "freerun train spelling --help"),
        (["spelling", "--model", "casual"], "unknown kind of model 'casual'; did you mean "
         "'causal'?"),
        (["spelling", "--model"], "--model needs a value"),
        (["spelling", "--model", "causal", "--model.heads", "3"], "model: hidden_size is 128; it "
         "must be a multiple of heads, 3"),
        (["spelling", "--model", "causal", "--model.positions", "20"], "train, example 1: source "
         "and target take 21 positions together, but the model has 20; shorten them, or train a "
         "model with more (--model.positions)"),
        (["arithmetic", *SIZES, "--model", "seq2seq", "--model.positions", "16"], "train, example "
         "19: the source has 28 tokens, but the model reads 16; shorten it, or train a model with "
         "more positions (--model.positions)"),
        (["spelling", "--training.gradient_checkpointing", "true"], "gradient_checkpointing=true "
         "has no effect on RecurrentPolicy; causal and seq2seq models have it"),
        (["spelling", "--model", "./nowhere"], "./nowhere: there is no such directory"),
        (["spelling", "--model", "cell.yaml"], "cell.yaml: there is no such directory"),
        (["spelling", "--model", "."], "config.json: there is no such file; is . a model?"),
        (["spelling", "--model", "{bare}"], "{bare}: there is no tokenizer beside the model"),
        (["digits", *SIZES, "--model", "causal"], "sources are real-valued, which "
         "a causal model cannot read; recurrent models can"),
        (["digits", "--model", "{seq2seq}"], "the task digits is not text, which a tokenizer "
                                             "needs; use a recurrent model"),
        (["spelling", "--init", "nowhere"], "nowhere: there is no such directory"),
    ],
)  # fmt: skip
def test_errors_are_reported_before_training(
    refuses, tmp_path, monkeypatch, pretrained, text, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell.yaml").write_text("model:\n  kind: causal\n  cell: gru\n")
    (tmp_path / "list.yaml").write_text("model: [causal]\n")
    words = [word.format(**pretrained) for word in words]
    data = ["--data", text] if words[0] == "spelling" else []
    refuses(
        f"freerun train: {message.format(**pretrained)}",
        *("train", words[0], "--output", "out", "--quiet", *data, *words[1:]),
    )
    assert not (tmp_path / "out").exists()


def test_sequential_steps_under_checkpointing_are_refused_before_training(run, text, tmp_path):
    words = ["train", "spelling", "--data", text, "--output", tmp_path / "out", "--quiet"]
    words += ["--model", "causal", *SCRATCH, "--training.gradient_checkpointing", "true"]
    status, _, errors = run(*words, *TASK, "--method", f"{METHODS[2]}:passes=0")
    assert status == 2
    assert errors.startswith("freerun train: under gradient checkpointing ")
    assert "passes" in errors
    assert list(tmp_path.iterdir()) == []
    assert run(*words, *TASK, *SHORT, "--method", f"{METHODS[2]}:passes=2")[0] == 0


def test_sources_that_leave_no_position_are_refused(run, refuses, pretrained, tmp_path):
    output, path = tmp_path / "out", tmp_path / "lines.txt"
    words = ["--output", output, "--quiet", "--model", pretrained["causal"]]
    assert run("train", "arithmetic", *words, *SIZES, "--task.digits", "1", *SHORT)[0] == 0
    path.write_text("1 + 1\n" + "1" * 65 + "\n")
    refuses(
        f"freerun predict: {path}, example 2: the source leaves none of the 64 positions of the "
        "model to write at; shorten it",
        *("predict", output, path),
    )


def test_a_missing_peft_is_reported(refuses, pretrained, text, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    words = ["--data", text, "--output", tmp_path / "out", "--quiet"]
    refuses(
        "freerun train: lora needs peft, which is missing: pip install 'freerun[lora]'",
        *("train", "spelling", *words, "--model", pretrained["causal"], "--model.lora", "2"),
    )


@pytest.mark.parametrize(
    ("name", "own", "foreign"),
    [
        ("causal", "--model.positions N", "--model.cell"),
        ("seq2seq", "--model.positions N", "--model.cell"),
        ("someone/model", "--model.lora N", "--model.heads"),
        ("recurrent", "--model.cell {gru,lstm}", "--model.heads"),
    ],
)
def test_the_help_has_the_settings_of_the_kind_of_model(run, name, own, foreign):
    for command in ("train", "compare"):
        status, output, errors = run(command, "spelling", "--model", name, "--help")
        assert (status, errors) == (0, "")
        assert f"Model {name}:\n" in output
        assert own in output
        assert foreign not in output.partition("Model ")[2]


def test_pretrained_models_have_a_small_default_learning_rate(run):
    _, output, _ = run("train", "spelling", "--model", "someone/model", "--help")
    entry = " ".join(output.partition("--training.learning_rate ")[2].split())
    assert entry.startswith(
        "X the peak learning rate; by default 1e-3, for a pretrained model 5e-5"
    )


@pytest.mark.parametrize(("kind", "passes"), [("causal", 2), ("recurrent", None)])
def test_the_passes_that_a_kind_of_model_makes_are_printed(run, tmp_path, text, kind, passes):
    flags = ["--model", kind, *(SCRATCH if kind == "causal" else [])]
    words = ["train", "spelling", "--data", text, *flags, *TASK, *SHORT]
    status, output, errors = run(*words, "--method", METHODS[2], "--output", tmp_path / "out")
    assert status == 0
    said = "passes 2, as for models that read rows at once" in " ".join((output + errors).split())
    assert said == (passes is not None)
    found = record(tmp_path / "out")["methods"][METHODS[2]]["settings"]
    assert found["passes"] == passes
