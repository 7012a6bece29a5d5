"""What is recorded, and how: `python -m tests.recorded.cases` writes the figures anew.

They are written anew only where a change of figures is wanted, and the commit says why.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from tests.recorded import adapter

HERE = Path(__file__).parent
LOSSES, RUNS = HERE / "losses.json", HERE / "runs.json"

ONCE = [(3, 9)]
"""Update 3 of 9."""
SEVERAL = [(step, 8) for step in range(6)]
EARLY = {"warm_up": 0.125, "anneal": 0.5, "floor": 0.3, "period": 2, "samplings": 2, "alpha": 0.4}
HALF = {"schedule": "constant", "k": 0.3}

WITH_EOS = ["gru", "lstm", "images", "gpt2", "llama", "t5", "bart"]
TAGGER = ["tagger"]
MAIN = ["gru", "gpt2"]
RECURRENT_AND_GPT2 = ["lstm", "gpt2"]
WITH_BACKSPACE = [f"{name} and backspace" for name in ("gru", "lstm", "gpt2", "llama", "bart")]

MLE = {
    "plain": ({}, [*WITH_EOS, *TAGGER, *WITH_BACKSPACE]),
    "label smoothing": ({"label_smoothing": 0.2}, MAIN),
}

SCHEDULED_SAMPLING = {
    "greedy": (HALF, [*WITH_EOS, *TAGGER]),
    "sample": (HALF | {"feedback": "sample"}, [*WITH_EOS, *TAGGER]),
    "greedy, 2 passes": (HALF | {"passes": 2}, [*WITH_EOS, *TAGGER]),
    "sample, 3 passes": (HALF | {"feedback": "sample", "passes": 3}, MAIN),
    "own tokens only": ({"schedule": "constant", "k": 0.0}, MAIN),
    "default schedule": ({}, MAIN),
    "linear": ({"schedule": "linear", "k": 0.9, "c": 0.05, "floor": 0.2}, MAIN),
    "exponential": ({"schedule": "exponential", "k": 0.6}, MAIN),
}

RELAXED = HALF | {"alpha": 2.0, "straight_through": False}
DIFFERENTIABLE = {
    "soft argmax": (RELAXED | {"alpha_end": 8.0}, [*WITH_EOS, *TAGGER]),
    "Gumbel": (RELAXED | {"relaxation": "soft_sample"}, [*WITH_EOS, *TAGGER]),
    "straight-through": (RELAXED | {"straight_through": True}, [*MAIN, "bart", *TAGGER]),
    "straight-through Gumbel": (
        RELAXED | {"relaxation": "soft_sample", "straight_through": True}, ["lstm", "llama"],
    ),
    "top 2": (RELAXED | {"top_k": 2}, [*MAIN, "t5", *TAGGER]),
    "top 2 Gumbel": (RELAXED | {"top_k": 2, "relaxation": "soft_sample"}, MAIN),
    "2 passes": (RELAXED | {"passes": 2}, [*WITH_EOS, *TAGGER]),
    "3 passes, Gumbel, top 3": (
        RELAXED | {"passes": 3, "relaxation": "soft_sample", "top_k": 3}, MAIN,
    ),
    "constant weights": (RELAXED | {"through": False}, MAIN),
    "constant weights, 2 passes": (RELAXED | {"through": False, "passes": 2}, MAIN),
}  # fmt: skip

EDIT = {"cost": "edit_distance"}
SOFT = EDIT | {"alpha": 2.0}
FEW = SOFT | {"tokens": 3}
ROLLS = [
    (roll_in, roll_out)
    for roll_in in ("reference", "learned", "mixed", "mixed_cells")
    for roll_out in ("reference", "learned", "mixed", "focused")
]
SEARNN = {
    "default": (EDIT, WITH_EOS),
    "alpha 2": (SOFT, WITH_EOS),
    "fixed length": ({"cost": "hamming", "alpha": 2.0}, TAGGER),
    "fixed length, total": ({"cost": "hamming_total", "alpha": 2.0}, TAGGER),
    "chunks": ({"cost": "chunk_f1", "alpha": 2.0, "roll_out": "reference"}, TAGGER),
    "chunks by copy": ({"cost": "chunk_f1", "reference": "copy", "alpha": 2.0}, TAGGER),
    **{
        f"roll-in {roll_in}, roll-out {roll_out}": (
            SOFT | {"roll_in": roll_in, "roll_out": roll_out}, MAIN,
        )
        for roll_in, roll_out in ROLLS
    },
    **{
        f"loss {loss}": (EDIT | {"cell_loss": loss}, RECURRENT_AND_GPT2)
        for loss in ("ll", "inverse_kl", "js", "llcas", "structured_hinge", "consistent", "l2")
    },
    **{
        f"cost {cost}": (SOFT | {"cost": cost, "roll_in": "learned"}, RECURRENT_AND_GPT2)
        for cost in ("bleu", "bleu_1", "gleu")
    },
    **{
        f"{reference} for BLEU": (
            SOFT | {"cost": "bleu", "reference": reference}
            | {"roll_in": "learned", "roll_out": "reference"}, ["gru"],
        )
        for reference in ("copy", "best_suffix_bleu", "best_suffix_gleu", "min_edit_distance")
    },
    "shares": (
        SOFT | {"roll_in": "mixed", "roll_in_share": 0.8, "roll_out_share": 0.2}, ["gru", "bart"],
    ),
    "focus grows": (SOFT | {"roll_out": "focused", "focus": 1, "focus_end": 4}, ["gru"]),
    "cells uniform": (SOFT | {"cells": 2}, MAIN),
    "cells uniform, fixed length": (
        {"cost": "hamming", "alpha": 2.0, "cells": 2}, TAGGER,
    ),
    "tokens uniform": (FEW | {"token_choice": "uniform"}, MAIN),
    "tokens by policy": (FEW | {"token_choice": "policy"}, MAIN),
    "tokens biased": (FEW | {"token_choice": "biased", "bias": 0.3}, MAIN),
    "tokens top k": (FEW | {"token_choice": "top_k"}, [*MAIN, "t5"]),
    "tokens targeted": (FEW | {"token_choice": "targeted", "gap": 0.2}, MAIN),
    "tokens neighbours": (FEW | {"token_choice": "neighbors", "neighbors": 2}, MAIN),
    "short": (SOFT | {"stretch": 1.0, "at_once": 5}, MAIN),
    "warm-up": (SOFT | {"warm_up": 0.5}, ["gru"]),
}  # fmt: skip
CLONING = {
    "default noise": ({}, ["gru and backspace"]),
    "no noise": ({"noise": 0.0}, ["gru and backspace"]),
    "noise 0.4": ({"noise": 0.4}, WITH_BACKSPACE),
    "noise in runs": ({"noise": 0.4, "noise_run": 3}, WITH_BACKSPACE),
}

SEQUENCE_MATCH = {
    **{
        divergence: (
            EARLY | {"noise": 0.3, "divergence": divergence},
            [f"{name} and backspace" for name in names],
        )
        for divergence, names in {
            "chi2_mixture": ("gru", "lstm", "gpt2", "llama", "bart"),
            "chi2": MAIN,
            "kl_model_data": MAIN,
            "kl_data_model": MAIN,
            "js": MAIN,
            "hellinger": MAIN,
            "tv": MAIN,
        }.items()
    },
    "noise in runs, discounted, short": (
        EARLY | {"noise": 0.3, "noise_run": 2, "gamma": 0.9, "length": 4},
        ["lstm and backspace", "bart and backspace"],
    ),
    "without backspace": (EARLY | {"backspace": False}, WITH_EOS),
}

UNLIKELIHOOD = {
    "token": ({}, [*WITH_EOS, *TAGGER]),
    "token, weighted": ({"weight": 0.3}, MAIN),
    "sequence": ({"level": "sequence", "ngram": 1}, [*WITH_EOS, *TAGGER]),
    "sequence, default": ({"level": "sequence"}, ["gru", "t5"]),
    "sequence, 2-grams, all": ({"level": "sequence", "ngram": 2, "share": 1.0}, MAIN),
}

CASES = {
    f"{method}: {name}: {policy}": (method, settings, policy, clocks)
    for method, cases, clocks in (
        ("mle", MLE, ONCE),
        ("scheduled_sampling", SCHEDULED_SAMPLING, ONCE),
        ("differentiable_scheduled_sampling", DIFFERENTIABLE, ONCE),
        ("searnn", SEARNN, ONCE),
        ("behavior_cloning", CLONING, ONCE),
        ("sequence_match", SEQUENCE_MATCH, SEVERAL),
        ("unlikelihood", UNLIKELIHOOD, ONCE),
    )
    for name, (settings, policies) in cases.items()
    for policy in policies
}
"""By name: method, settings, policy and updates."""

TEXT = """\
the quick brown fox jumps over the lazy dog while a small cat sleeps in the warm sun near the old
garden wall and dreams of mice that run through fields of yellow corn until the evening comes with
rain and wind and all the birds fly home to their nests high in the tall trees by the river bank
"""
SIZES = {"train_size": 40, "dev_size": 12, "test_size": 12}
TASKS = {"digits": SIZES, "spelling": {"dev_size": 5, "test_size": 5}, "arithmetic": SIZES}
TINY = {"hidden_size": 12, "embedding_size": 8, "attention": "general"}
TRANSFORMER = {"hidden_size": 12, "layers": 1, "heads": 2}
METHODS = {
    "mle": {},
    "scheduled_sampling": {"feedback": "sample"},
    "differentiable_scheduled_sampling": {
        "relaxation": "soft_sample", "straight_through": False, "passes": 0,
    },
    "searnn": {"alpha": 5.0, "cells": 3, "token_choice": "top_k", "tokens": 4},
    "behavior_cloning": {"noise": 0.2},
    "sequence_match": EARLY | {"noise": 0.2},
    "unlikelihood": {"level": "sequence", "ngram": 2},
}  # fmt: skip
UPDATES = 6
RUN = {
    f"{task}: {method}: {model}": (task, method, model)
    for model, tasks, methods in (
        ("recurrent", TASKS, METHODS),
        ("causal", ["arithmetic"], ["mle", "scheduled_sampling", "sequence_match"]),
        ("seq2seq", ["spelling"], ["mle", "differentiable_scheduled_sampling", "searnn"]),
    )
    for task in tasks
    for method in methods
}
"""By name: task, method and model."""


def group(parameter):
    """The part of a model that a parameter belongs to: its layer, or its module."""
    parts = adapter.recorded_name(parameter).split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1])


def gradients(policy, total):
    """For every group of parameters the norm of its gradient, and its product with fixed numbers.

    The product tells gradients of equal norm apart.
    """
    names, parameters = zip(*policy.named_parameters(), strict=True)
    found = [None] * len(names)
    if total.requires_grad:
        found = torch.autograd.grad(total, parameters, allow_unused=True)
    sums = {}
    for name, gradient in zip(names, found, strict=True):
        square, product = sums.get(group(name), (0.0, 0.0))
        if gradient is not None:
            flat = gradient.flatten()
            fixed = adapter.numbers(f"gradient of {adapter.recorded_name(name)}", len(flat))
            square += float(flat @ flat)
            product += float(flat @ torch.from_numpy(fixed))
        sums[group(name)] = square, product
    return {name: [square**0.5, product] for name, (square, product) in sums.items()}


def losses(case):
    """Loss, count, metrics and gradient of a case, for each of its updates."""
    method, settings, name, clocks = CASES[case]
    policy = adapter.policy(name)
    batch = adapter.batch(policy)
    return [
        {
            "total": float(total.detach()),
            "count": int(count),
            "metrics": {name: float(value) for name, value in metrics.items()},
            "gradient": gradients(policy, total),
        }
        for total, count, metrics in adapter.losses(method, settings, policy, batch, clocks)
    ]


def run(case, folder):
    """The losses of a short run, and the metrics of its model on dev; its files go to a folder."""
    task, method, model = RUN[case]
    task_settings = dict(TASKS[task])
    if task == "spelling":
        text = Path(folder, "text.txt")
        text.write_text(TEXT, encoding="utf-8")
        task_settings["data"] = str(text)
    model_settings = TINY if model == "recurrent" else TRANSFORMER
    found, dev = adapter.run(
        task,
        task_settings,
        method,
        METHODS[method],
        model,
        model_settings,
        UPDATES,
        Path(folder, "run"),
    )
    return {"loss": found, "dev": dev}


def write(path, figures):
    """Figures by name, a line each."""
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in figures.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(kinds):
    """Write the figures anew."""
    torch.set_num_threads(1)
    if "losses" in kinds:
        write(LOSSES, {case: losses(case) for case in CASES})
    if "runs" in kinds:
        figures = {}
        for case in RUN:
            with tempfile.TemporaryDirectory() as folder:
                figures[case] = run(case, folder)
        write(RUNS, figures)


if __name__ == "__main__":
    main(sys.argv[1:] or ["losses", "runs"])
