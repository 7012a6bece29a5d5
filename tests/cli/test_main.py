"""The program as a whole: its help, its exit statuses, and how errors are reported."""

import gc
import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from freerun import __version__
from freerun.cli import main
from freerun.cli import main as entry
from freerun.cli.groups import LISTINGS, SUMMARIES, Program
from freerun.models.settings import KINDS
from freerun.tasks import TASKS
from tests.cli.tiny import MODEL, TASK


def test_the_help_lists_every_command(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, output, errors = run("--help")
    assert (status, errors) == (0, "")
    assert output.startswith("Usage: freerun COMMAND …\n")
    for name, summary in SUMMARIES.items():
        assert f"  {name:8}  {summary}\n" in output
    assert max(map(len, output.splitlines())) <= 100
    assert run() == (2, "", output), "without a command, the help is an error"


@pytest.mark.parametrize("command", SUMMARIES)
def test_every_command_has_a_help(run, command):
    status, output, errors = run(command, "-h")
    assert (status, errors) == (0, "")
    assert output.startswith(f"Usage: freerun {command} ")
    assert run(command, "--help") == (status, output, errors)


@pytest.mark.parametrize("words", [["methods"], ["train", "digits"]])
def test_garbage_is_collected_again_once_the_command_is_imported(words):
    program = Program(owns_process=True)
    context = click.Context(program)
    try:
        assert not gc.isenabled()
        for word in words:
            program = program.get_command(context, word)
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_version(run):
    assert run("--version") == (0, f"freerun {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compar"], "freerun: unknown command 'compar'; did you mean 'compare'?"),
        (["--foo"], "freerun: unknown option --foo; see freerun --help"),
        (["methods", "ss"], "freerun methods: unknown method 'ss'; did you mean "
         "'scheduled_sampling'?"),
        (["tasks", "digit"], "freerun tasks: unknown task 'digit'; did you mean 'digits'?"),
        (["tasks", "a", "b"], "freerun tasks: unexpected argument 'b'; see freerun tasks --help"),
        (["methods", "a", "b"], "freerun methods: unexpected argument 'b'; see freerun methods "
         "--help"),
    ],
)  # fmt: skip
def test_unknown_words(refuses, words, message):
    refuses(message, *words)


def test_a_bug_shows_its_traceback(monkeypatch):
    monkeypatch.setattr("freerun.cli.listings.TASKS", None)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'items'"):
        main(["tasks"])


def test_errors_of_the_system_are_reported_without_a_traceback(monkeypatch, run):
    def full(self, settings):
        raise OSError(28, "No space left on device", "runs/results.json")

    monkeypatch.setattr("freerun.cli.listings.TasksCommand.run", full)
    message = "freerun tasks: runs/results.json: No space left on device\n"
    assert run("tasks") == (2, "", message)


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        (["train", "digits"], "train.TrainCommand",
         "interrupted; the same command resumes from the last checkpoint"),
        (["compare", "digits"], "train.CompareCommand",
         "interrupted; the same command resumes from the last checkpoint"),
        (["predict"], "predict.PredictCommand", "interrupted"),
    ],
)  # fmt: skip
def test_an_interruption_says_how_to_resume(monkeypatch, run, words, name, message):
    def interrupted(self, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"freerun.cli.{name}.run", interrupted)
    assert run(*words) == (130, "", f"\nfreerun {words[0]}: {message}\n")


DESCRIBING = [
    *([name, "--help"] for name in SUMMARIES),
    *(["train", task, "--help"] for task in TASKS),
    ["compare", "digits", "--help"],
    *(["train", "digits", "--model", kind, "--help"] for kind in (*KINDS, "some/model")),
    *([name] for name in LISTINGS),
    ["tasks", "spelling"],
    ["methods", "searnn"],
    ["metrics", "bleu"],
    ["methods", "ss"],
    ["train", "digit", "--help"],
]


def test_help_and_listings_do_not_import_torch_and_say_the_same(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code = """if True:
        import contextlib, io, json, sys
        from freerun.cli import main
        found = []
        for words in json.load(sys.stdin):
            sys.argv[1:] = words
            with contextlib.redirect_stdout(io.StringIO()) as output:
                with contextlib.redirect_stderr(io.StringIO()) as errors:
                    status = main()
            assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), words
            found.append((status, output.getvalue(), errors.getvalue()))
        json.dump(found, sys.stdout)
    """
    words = ["--version", "--help", "trian", "--hepl"]
    commands = [[], *([word] for word in words), *DESCRIBING]
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(commands), stdout=subprocess.PIPE,
        text=True, check=True,
    )  # fmt: skip
    for words, found in zip(commands, json.loads(done.stdout), strict=True):
        assert tuple(found) == run(*words), words


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_program_exits_ends_it_without_a_traceback(number):
    code = f"""if True:
        import os, signal, sys
        # What runs in the background of a shell may ignore the signal.
        usual = signal.default_int_handler if {number:d} == signal.SIGINT else signal.SIG_DFL
        signal.signal({number:d}, usual)
        from freerun.cli import main
        sys.argv[1:] = ["--version"]
        main()
        os.kill(os.getpid(), {number:d})
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.returncode, done.stderr) == (-number, b"")


def test_the_module_is_the_program():
    command = [sys.executable, "-m", "freerun", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"freerun {__version__}\n"
    assert entry is main


def test_ctrl_c_leaves_a_run_that_can_be_resumed(tmp_path):
    output = tmp_path / "model"
    words = ["train", "digits", "--output", str(output), *TASK, *MODEL]
    words += ["--training.updates", "100000", "--training.evaluate_every", "5"]
    command = [sys.executable, "-m", "freerun", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # What runs in the background of a shell may ignore the signal, and so would what it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 120
        while not list(output.glob("checkpoint-*")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.endswith(
        "freerun train: interrupted; the same command resumes from the last checkpoint\n"
    )
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("shell", "status", "message"),
    [
        ('"$@" | :; exit ${PIPESTATUS[0]}', 141, ""),
        ('"$@" > /dev/full', 2, "freerun methods: No space left on device\n"),
        ('"$@" 2> /dev/full > /dev/full', 2, ""),
        ('"$@" >&- <&-', 0, ""),
        ('"$@" >&- 2>&-', 0, ""),
        ('PYTHONIOENCODING=ascii "$@" > /dev/null', 0, ""),
    ],
)
def test_streams_that_cannot_be_written(shell, status, message):
    command = [sys.executable, "-m", "freerun", "methods"]
    done = subprocess.run(["bash", "-c", shell, "-", *command], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (status, message)


def test_a_model_that_does_not_fit_is_out_of_memory(run, tmp_path):
    words = ["--model.hidden_size", "4000000000", "--output", tmp_path / "out", "--quiet", *TASK]
    status, output, errors = run("train", "digits", *words)
    assert (status, output) == (2, "")
    assert errors.startswith(
        "freerun train: out of memory; a smaller model, a smaller batch_size, or shorter rows need "
        "less ("
    )


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("training.threads", "1025", "training: threads is 1025; it must be at most 1024"),
        ("model.layers", "1001", "model: layers is 1001; it must be at most 1000"),
        ("seed", "-1", "training: seed is -1; it must be in [0, 2^32)"),
    ],
)
@pytest.mark.parametrize("model", ["recurrent", "causal"])
def test_numbers_beyond_all_machines(refuses, tmp_path, model, setting, value, message):
    words = ["--model", model, "--output", str(tmp_path / "out"), f"--{setting}", value]
    refuses(f"freerun train: {message}", "train", "digits", *words)
