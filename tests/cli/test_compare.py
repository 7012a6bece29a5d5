"""`freerun compare`: from a command line to a table, and error messages."""

import json

import pytest

from freerun.methods import METHODS
from freerun.report import describe_comparison
from freerun.study import work
from tests.cli.pretrained import save_causal
from tests.cli.tiny import MODEL, TINY, TRAINING

LINEAR = "scheduled_sampling:schedule=linear"


def test_a_comparison_prints_a_table_and_the_paths_of_its_files(run, text, tmp_path):
    output = tmp_path / "out"
    words = ["spelling", "--data", text, "--methods", "mle", LINEAR, "--seeds", "2"]
    status, printed, errors = run("compare", *words, "--output", output, *MODEL, *TRAINING)
    assert status == 0
    results = json.loads((output / "results.json").read_text())
    assert list(results["methods"]) == ["mle", LINEAR]
    assert results["seeds"] == [0, 1]
    assert str(text) in results["command"]
    assert results["command"].startswith("freerun compare spelling --data")
    lines = printed.splitlines()
    assert lines[0].rstrip() == "spelling, 4 updates each"
    assert lines[-4:] == [
        str(output / name)
        for name in ("results.json", "learning_curves.png", "error_by_position.png", "report.html")
    ]
    answer = " ".join(lines)
    assert all(line in answer for line in describe_comparison(results))
    figure = results["methods"]["mle"]["test"]["character_error"]
    assert f"{figure['mean'] * 100:.2f} ± {figure['std'] * 100:.2f}" in printed
    assert max(map(len, lines[:-4])) <= 80
    assert "Run 4 of 4: scheduled_sampling:schedule=linear, seed 1\n" in errors
    assert (output / "scheduled_sampling-schedule=linear" / "seed-1" / "freerun.json").exists()


def test_variants_are_named_in_yaml(run, tmp_path):
    config = tmp_path / "compare.yaml"
    config.write_text(
        "methods:\n"
        "  mle: {}\n"
        "  ss_linear: {scheduled_sampling: {schedule: linear}}\n"
        "seeds: [4]\n"
        f"output: {tmp_path / 'out'}\n"
        "quiet: true\n"
    )
    status, printed, errors = run("compare", "digits", "--config", config, *TINY)
    assert (status, errors) == (0, "")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["methods"]["ss_linear"]["method"] == "scheduled_sampling"
    assert results["methods"]["ss_linear"]["settings"]["schedule"] == "linear"
    assert results["seeds"] == [4]
    assert " ss_linear " in printed


def test_a_flag_selects_variants_of_the_file(run, refuses, tmp_path):
    config = tmp_path / "compare.yaml"
    config.write_text(
        "methods:\n  mle: {label_smoothing: 0.25}\n  ss: {scheduled_sampling: {k: 9}}\n"
        "  dss: differentiable_scheduled_sampling\n"
    )
    words = "compare", "digits", "--config", config, "--output", tmp_path / "out", "--quiet"
    refuses(
        "freerun compare: --methods: unknown method 'sss'; known are "
        f"{', '.join(METHODS)}; variants in the file are mle, ss, dss",
        *(*words, "--methods", "mle", "sss"),
    )
    given = "--methods", "mle", "ss", "scheduled_sampling", "--seeds", "1"
    assert run(*words, *given, *TINY)[0] == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["methods"]
    assert [*found] == ["mle", "ss", "scheduled_sampling"]
    assert found["mle"]["settings"]["label_smoothing"] == 0.25
    assert found["ss"]["settings"]["k"] == 9
    assert found["scheduled_sampling"]["settings"]["k"] != 9
    config.write_text("methods: {ss: {scheduled_samplin: {}}}\n")
    refuses(
        f"freerun compare: {config}, line 1: methods: ss: unknown method 'scheduled_samplin'; did "
        "you mean 'scheduled_sampling'?",
        *(*words, "--methods", "mle"),
    )


def test_later_methods_have_what_the_first_has(run, refuses, tmp_path):
    """Costs of texts, templates and teachers; what is wrong about them is found before training."""
    rows, model, teacher = (tmp_path / name for name in ("rows.jsonl", "model", "teacher"))
    lines = [{"source": f"{a} {b}", "target": f"{b} {a}"} for a in "abcde" for b in "fghij"]
    rows.write_text("".join(json.dumps(row) + "\n" for row in lines))
    save_causal(model)
    save_causal(teacher, seed=1)
    words = ["compare", "pairs", "--data", rows, "--model", model, "--seeds", "1", *TRAINING]
    words += ["--task.dev_size", "2", "--task.test_size", "2", "--quiet", "--methods", "mle"]
    found = [
        "mrt:cost=wer,samples=2,warm_up=0",
        "self_distillation:template=a {reference} b,warm_up=0",
        f"gkd:teacher={teacher}",
    ]
    output = tmp_path / "out"
    assert run(*words, *found, "--output", output)[::2] == (0, "")
    assert list(json.loads((output / "results.json").read_text())["methods"]) == ["mle", *found]
    message = "freerun compare: method 'gkd:teacher=nowhere': nowhere: there is no such folder"
    refuses(message, *words, "gkd:teacher=nowhere", "--output", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_an_interrupted_comparison_is_resumed(run, tmp_path, monkeypatch):
    output = tmp_path / "out"
    words = ["compare", "digits", "--methods", "mle", LINEAR, "--seeds", "1", *TINY]
    words += ["--output", output]
    whole, calls = work.fit, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["output"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(work, "fit", interrupted)
    status, printed, errors = run(*words)
    assert (status, printed) == (130, "")
    assert errors.endswith(
        "\nfreerun compare: interrupted; the same command resumes from the last checkpoint\n"
    )
    done = (output / "mle" / "seed-0" / "model.safetensors").stat().st_mtime_ns
    assert run(*words)[0] == 0
    assert (output / "mle" / "seed-0" / "model.safetensors").stat().st_mtime_ns == done
    assert (output / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digit"], "unknown task 'digit'; did you mean 'digits'?"),
        (["digits"], "--output is missing: the folder for results, plots and models; an unfinished "
         "comparison in it is resumed"),
        (["digits", "--output", "x", "--methods", "mle", "schedule_sampling"], "--methods: unknown "
         "method 'schedule_sampling'; did you mean 'scheduled_sampling'?"),
        (["digits", "--output", "x", "--methods", "mle", "mle"], "--methods: 'mle' is named twice; "
         "each variant needs its own name"),
        (["digits", "--output", "x", "--methods"], "--methods needs a value"),
        (["digits", "--output", "x", "--seeds", "0"], "seeds is 0; at least one is needed"),
        (["digits", "--output", "x", "--seeds", "many"], "--seeds is 'many'; it must be a whole "
         "number or a list of whole numbers, such as [1,2]"),
        (["digits", "--output", "x", "--seeds", "1", "2"], "unexpected argument '2'; write a list "
         "without spaces, as in --seeds [1,2]"),
        (["digits", "--output", "x", "--seeds", "[3,", "4]"], "unexpected argument '4]'; write a "
         "list without spaces, as in --seeds [1,2]"),
        (["digits", "--output", "x", "--seed", "3"], "unknown option --seed; did you mean "
         "'--seeds'?"),
        (["digits", "--output", "x", "--config", "unknown.yaml"], "unknown.yaml, line 2: methods: "
         "ss: unknown method 'scheduled_samplin'; did you mean 'scheduled_sampling'?"),
        (["digits", "--output", "x", "--config", "setting.yaml"], "setting.yaml, line 1: methods: "
         "method 'ss': unknown setting 'shedule'; did you mean 'schedule'?"),
        (["digits", "--output", "x", "--config", "seed.yaml"], "seed.yaml, line 1: unknown setting "
         "'training.sed'; did you mean 'decoding.seed'?"),
        (["digits", "--output", "taken"], "taken: it holds notes.txt but no comparison; choose "
         "another output directory"),
        (["digits", "--output", "taken/notes.txt/x"], "taken/notes.txt/x: cannot write there (Not "
         "a directory)"),
    ],
)  # fmt: skip
def test_errors_are_reported_before_training(refuses, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "unknown.yaml": "seeds: 1\nmethods: {ss: {scheduled_samplin: {}}}\n",
        "setting.yaml": "methods: {ss: {scheduled_sampling: {shedule: linear}}}\n",
        "seed.yaml": "training: {sed: 3}\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    refuses(f"freerun compare: {message}", "compare", *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_help_shows_required_options_and_how_to_name_variants(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, output, errors = run("compare", "ocr", "--help")
    assert (status, errors) == (0, "")
    assert output.startswith("Usage: freerun compare ocr --data PATH --output DIR [OPTIONS]\n")
    assert "A YAML file (--config) overrides them" in " ".join(output.split())
    assert "ss_linear: {scheduled_sampling: {schedule: linear}}" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize("value", ["5", "true", "null"])
def test_methods_of_another_type_are_refused(refuses, tmp_path, value):
    (tmp_path / "run.yaml").write_text(f"methods: {value}\n")
    words = ["digits", "--output", tmp_path / "out", "--config", tmp_path / "run.yaml"]
    message = f"options: methods is {value}; it must be a list or a mapping of methods"
    refuses(f"freerun compare: {message}", "compare", *words)
