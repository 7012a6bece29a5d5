"""How time and memory of an update grow with lengths, batches, vocabularies and models.

Run `python benchmarks/growth.py --json growth.json`. One dimension grows at a time. At every point,
each method makes updates of the same model on the same batch, in turn with those of MLE: time is
the fastest of the rounds, and memory the peak of all tensors above weights and optimizer states, by
torch's profiler. A slope is that of the line through the logarithms: 1 if doubling the dimension
doubles the figure. Models are untrained, so own outputs have the maximum length, 1.5 times that of
targets.
"""

from __future__ import annotations

import copy
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from counting import Toy
from roll_outs import Shape
from timing import parse, parser, side_by_side, write
from torch.profiler import ProfilerActivity, profile
from transformers import GPT2Config, GPT2LMHeadModel
from updates import make_updates

from freerun.batch import Batch
from freerun.methods import GKD, Clock, Method
from freerun.models.backspace import with_backspace
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.policy import Policy
from freerun.study import parse_method

Figures = dict[str, float | str]
MODELS = ("recurrent", "causal")
COSTS = "cost=edit_distance,warm_up=0"
COINS = "schedule=constant,k=0.5"
METHODS = {
    "mle": "mle",
    "scheduled_sampling": f"scheduled_sampling:{COINS}",
    "scheduled_sampling_2_passes": f"scheduled_sampling:{COINS},passes=2",
    "differentiable_scheduled_sampling": f"differentiable_scheduled_sampling:{COINS}",
    "offline_scheduled_sampling": f"offline_scheduled_sampling:{COINS},share=1",
    "answer_correction": "answer_correction",
    "self_distillation": "self_distillation:warm_up=0",
    "gkd": "gkd",
    "raml": "raml",
    "ocd": "ocd",
    "reinforce": f"reinforce:{COSTS},baseline=mean,samples=1",
    "mixer": f"mixer:{COSTS}",
    "mrt": f"mrt:{COSTS},samples=4",
    "actor_critic": f"actor_critic:{COSTS}",
    "bso": "bso:warm_up=0,anneal=0,beam=3",
    "searnn": f"searnn:{COSTS},token_choice=top_k",
    "behavior_cloning": "behavior_cloning:noise=0.05",
    "sequence_match": "sequence_match:warm_up=0,anneal=0,period=1",
    "unlikelihood": "unlikelihood",
}
"""Each method. SequenceMatch samples in every update, the offline ones in none that is measured."""

CPU = torch.device("cpu")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler reports each start


@dataclass(frozen=True)
class Point:
    """A model, a batch, and the size of the search of SEARNN.

    Attributes:
        length: the number of tokens of a target; also of a source of the recurrent model.
        batch: the number of examples.
        words: the number of tokens of the vocabulary.
        width: the number of hidden units.
        cells: the number of cells that SEARNN searches in a sentence.
        tokens: the number of tokens that SEARNN tries at a cell.
    """

    length: int = 16
    batch: int = 8
    words: int = 1_000
    width: int = 128
    cells: int = 4
    tokens: int = 4

    def build(self, model: str) -> tuple[Policy, Batch]:
        """Return a model and a batch."""
        torch.manual_seed(0)
        if model == "recurrent":
            sizes = {"batch": self.batch, "length": self.length, "hidden": self.width}
            shape = Shape(**sizes, source_words=1_000, words=self.words)
            return shape.policy(), shape.sentences(CPU)
        toy = Toy(self.words, self.length, self.length, rows=self.batch)
        config = GPT2Config(
            vocab_size=self.words, n_positions=toy.prompt + 2 * self.length + 8,
            n_embd=self.width, n_layer=4, n_head=4,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **toy.special,
        )  # fmt: skip
        policy = adapt(GPT2LMHeadModel(config), toy.vocabulary, limit=2 * self.length)
        return policy.train(), toy.batch(CPU)

    def method(self, name: str, policy: Policy) -> Method:
        """Return a method, without anything that it has learned or kept."""
        if name == "gkd":
            return GKD(teacher=copy.deepcopy(policy))
        spec = METHODS[name]
        if name == "searnn":
            spec += f",cells={self.cells},tokens={self.tokens}"
        return parse_method(spec).for_model(at_once=isinstance(policy, HuggingFacePolicy))


GROWING = {
    "length": [16, 32, 64],
    "batch": [8, 16, 32],
    "words": [1_000, 8_000, 32_000],
    "width": [128, 256, 512],
}
"""Values of each dimension; the first are those of the smallest point."""

SEARCH = {"cells": [2, 4, 8, 16], "tokens": [2, 4, 8, 16]}
"""Values of the dimensions of SEARNN alone."""


def prepare(name: str, point: Point, policy: Policy, batch: Batch) -> Callable[[], None]:
    """Return a function that makes an update of a method, which changes nothing."""
    method = point.method(name, policy)
    if method.needs_backspace:
        policy = with_backspace(copy.deepcopy(policy))
    return make_updates(policy, method, [batch], [Clock(1, 10)])


def measure_peak(run: Callable[[], object]) -> float:
    """Return the peak memory of the tensors that a call creates, in MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    sizes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(accumulate(sizes), default=0) / 1e6


def measure(
    model: str, point: Point, names: Iterable[str], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return the seconds and the MB of an update of each method, by its name."""
    policy, batch = point.build(model)
    runs = {name: prepare(name, point, policy, batch) for name in names}
    times = side_by_side(runs, rounds=rounds, device=CPU)
    # Last, as states of the optimizer and buffers exist by now.
    memory = {name: measure_peak(run) for name, run in runs.items()}
    return {name: (min(times[name]), memory[name]) for name in runs}


def fit_slope(values: Sequence[float], figures: Sequence[float]) -> float:
    """Return the slope of the line through the logarithms, by least squares."""
    logs = [[math.log(number) for number in numbers] for numbers in (values, figures)]
    return statistics.linear_regression(*logs).slope


def grow(
    model: str, names: Sequence[str], growing: Mapping[str, Sequence[int]], rounds: int
) -> Figures:
    """Return the figures of all points, slopes, and ratios to MLE at the first point."""
    figures: Figures = {}
    first = Point(**{name: values[0] for name, values in growing.items()})
    points: dict[Point, dict[str, tuple[float, float]]] = {}
    for dimension, values in growing.items():
        along = [replace(first, **{dimension: value}) for value in values]
        for point in along:
            if point not in points:
                points[point] = measure(model, point, names, rounds)
        for name in names:
            for which, kind in enumerate(("seconds", "mb")):
                found = [points[point][name][which] for point in along]
                key = f"{model}/{name}/{dimension}"
                for value, figure in zip(values, found, strict=True):
                    figures[f"{key}={value}/{kind}"] = float(f"{figure:.4g}")
                figures[f"{key}/{kind}_slope"] = round(fit_slope(values, found), 2)
    for name in names:
        for which, kind in enumerate(("seconds", "mb")):
            ratio = points[first][name][which] / points[first]["mle"][which]
            figures[f"{model}/{name}/{kind}_vs_mle"] = round(ratio, 2)
    return figures


def main() -> None:
    """Measure all points of both models, and print and write the figures."""
    options = parser(__doc__.splitlines()[0], rounds=2)
    options.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options.set_defaults(threads=1)
    given = parse(options)
    names = list(dict.fromkeys(["mle", *given.methods]))
    growing, search, rounds = GROWING, SEARCH, given.rounds
    if given.quick:
        growing, search, rounds = {"length": [4, 8]}, {"cells": [2, 4]}, 1
    figures: Figures = {"threads": given.threads, "torch": torch.__version__}
    for model in given.models:
        figures |= grow(model, names, growing, rounds)
        if "searnn" in names:
            found = grow(model, ["mle", "searnn"], search, rounds)
            figures |= {key: value for key, value in found.items() if "vs_mle" not in key}
    write(figures, given.json)


if __name__ == "__main__":
    main()
