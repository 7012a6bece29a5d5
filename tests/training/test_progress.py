"""What a person sees."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from freerun.training import progress
from freerun.training.callbacks import Meter
from freerun.training.progress import ProgressBar


@pytest.fixture
def args(tmp_path):
    return TrainingArguments(str(tmp_path), use_cpu=True, metric_for_best_model="hamming_error")


def show(args, *, terminal, budget=None, rank=0, resumed=False):
    text = io.StringIO()
    meter = Meter(budget)
    bar = ProgressBar(meter, Console(file=text, force_terminal=terminal, width=120))
    state = TrainerState(max_steps=40, is_world_process_zero=rank == 0)
    if resumed:
        state.global_step = 10
        state.log_history = [{"loss": 0.75, "step": 10}, {"eval_hamming_error": 0.5, "step": 10}]
    control = TrainerControl()
    bar.on_train_begin(args, state, control)
    for update in range(state.global_step, 40):
        state.global_step = update + 1
        meter.seconds, meter.timed_seconds, meter.timed_updates = update / 4, update / 4, update
        bar.on_step_end(args, state, control)
        if state.global_step == 20:
            bar.on_log(args, state, control, logs={"loss": 0.123456})
            bar.on_log(args, state, control, logs={"eval_hamming_error": 0.0625})
            bar.on_evaluate(args, state, control)
    bar.on_train_end(args, state, control)
    return text.getvalue()


def test_plain_lines_where_there_is_no_terminal(args):
    assert show(args, terminal=False) == "20/40  4.0/s  loss 0.1235  dev hamming_error 0.0625\n"


def test_plain_lines_tell_seconds_of_a_budget(args):
    shown = show(args, terminal=False, budget=60.0)
    assert shown == "20 (5/60 s)  4.0/s  loss 0.1235  dev hamming_error 0.0625\n"


def test_a_line_comes_every_now_and_then(args, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_EVERY", -1.0)
    lines = show(args, terminal=False, resumed=True).splitlines()
    assert len(lines) == 31
    assert lines[1] == "12/40  4.0/s  loss 0.7500  dev hamming_error 0.5000"


def test_a_bar_on_a_terminal(args):
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", show(args, terminal=True))
    for part in ("training", "20/40", "4.0/s", "loss 0.1235", "dev hamming_error 0.0625"):
        assert part in shown


def test_an_evaluation_before_training_reports_no_updates(args):
    text = io.StringIO()
    bar = ProgressBar(Meter(), Console(file=text))
    bar.on_evaluate(args, TrainerState(), TrainerControl())
    assert text.getvalue() == ""


def test_other_processes_are_silent(args):
    assert show(args, terminal=True, rank=1) == ""
    assert show(args, terminal=False, rank=1) == ""
