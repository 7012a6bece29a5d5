"""Time decoding of Hugging Face models relative to `generate`, and training relative to MLE.

Run `python benchmarks/huggingface.py --json huggingface.json`. Ratios are of figures measured
side by side in this run, for three models with 4 layers of 128; a key without the name of a model
is the worst of them. Decoding is measured in tokens per second, eos included, training in seconds
per update. If trl is installed, an update of its GKD trainer is timed too.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from counting import EOS, KINDS, Toy
from each_model import Figures, benchmark
from gkd import distillers
from roll_outs import idle, updates
from searnn_parts import PARTS, timed
from timing import ratio, seconds, side_by_side
from torch import Tensor

from freerun.batch import Batch, Source
from freerun.decoding import greedy, sample
from freerun.methods import MLE, SEARNN, DifferentiableScheduledSampling, Method, ScheduledSampling
from freerun.methods.searnn import Candidates, TopTokens
from freerun.models.huggingface import HuggingFacePolicy

ALL_OWN: dict[str, Any] = {"schedule": "constant", "k": 0.0}
"""Only own tokens: the most expensive setting of the methods."""
METHODS: dict[str, Method] = {
    "two_pass_ss": ScheduledSampling(passes=2, **ALL_OWN),
    "sequential_ss": ScheduledSampling(**ALL_OWN),
    "dss_two_pass_constant": DifferentiableScheduledSampling(passes=2, through=False, **ALL_OWN),
    "dss_two_pass": DifferentiableScheduledSampling(passes=2, **ALL_OWN),
    "k_pass_dss": DifferentiableScheduledSampling(passes=3, **ALL_OWN),
}
SEARCH = SEARNN(cost="edit_distance", candidates=Candidates(tokens=TopTokens(5)))
DRAWN = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}


@dataclass(frozen=True)
class Decoder:
    """A decoder to time.

    Attributes:
        run: a function that decodes in a given round.
        count: a function that counts the tokens of its result, up to eos in each row.
    """

    run: Callable[[int], Any]
    count: Callable[[Any], int]


def decoders(policy: HuggingFacePolicy, batch: Batch) -> dict[str, Decoder]:
    """Return ours and that of transformers, for the same prompts and the same limit."""
    source = batch.source
    before = 1 if policy.config.is_encoder_decoder else source.values.shape[1]

    def generate(step: int, **settings: object) -> Tensor:
        torch.manual_seed(step)
        return policy.model.generate(
            source.values,
            attention_mask=source.mask.long(),
            max_new_tokens=policy.max_new_tokens,
            **settings,
        )

    def theirs(found: Tensor) -> int:
        closing = (found[:, before:] == EOS).long()
        return int((closing.cumsum(1) - closing == 0).sum())

    def ours(found: Any) -> int:
        return int(found.lengths.sum())

    return {
        "greedy": Decoder(lambda _: greedy(policy, source), ours),
        "greedy_generate": Decoder(lambda step: generate(step, do_sample=False), theirs),
        "sample": Decoder(lambda step: sample(policy, source, ids=batch.ids, seed=step), ours),
        "sample_generate": Decoder(lambda step: generate(step, **DRAWN), theirs),
    }


def rates(
    decoders: dict[str, Decoder], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the tokens per second of each decoder in every round, after one warm-up round."""
    found: dict[str, list[float]] = {name: [] for name in decoders}
    for step in range(rounds + 1):
        for name, decoder in decoders.items():
            output: list[Any] = []
            took = seconds(lambda: output.append(decoder.run(step)), device)  # noqa: B023
            if step > 0:
                found[name].append(decoder.count(output[0]) / took)
    return found


def decoding(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time decoding if rows end at different places, and if all rows reach the limit."""
    figures = {}
    for fixed in (False, True):
        batch, suffix = toy.batch(device, fixed=fixed), "_fixed" if fixed else ""
        both = decoders(policy, batch)
        lengths = {name: decoder.count(decoder.run(0)) for name, decoder in both.items()}
        assert lengths["greedy"] == lengths["greedy_generate"], "the two write different tokens"
        found = rates(both, rounds, device)
        for name in ("greedy", "sample"):
            figures[f"{name}_vs_generate{suffix}"] = ratio(found, name, f"{name}_generate")
        for name, values in found.items():
            figures[f"{name}{suffix}_tokens_per_s"] = float(round(statistics.median(values)))
        for name, total in lengths.items():
            figures[f"{name}{suffix}_tokens"] = float(total)
    return figures


def capturing(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time decoding by captured steps, relative to `generate` with and without a static cache.

    With a static cache, `generate` compiles its steps on a GPU. The first round is a warm-up.
    """
    captured, figures = copy.deepcopy(policy), {}
    captured.capture_steps()
    for fixed in (False, True):
        batch, suffix = toy.batch(device, fixed=fixed), "_fixed" if fixed else ""
        source, plain = batch.source, decoders(policy, batch)
        ours = decoders(captured, batch)

        def generate(_: int, source: Source = source) -> Tensor:
            return policy.model.generate(
                source.values,
                attention_mask=source.mask.long(),
                max_new_tokens=policy.max_new_tokens,
                do_sample=False,
                cache_implementation="static",
            )

        runs = {f"captured_{name}": ours[name] for name in ("greedy", "sample")}
        runs |= {name: plain[f"{name}_generate"] for name in ("greedy", "sample")}
        runs["static"] = Decoder(generate, plain["greedy_generate"].count)
        lengths = {runs[name].count(runs[name].run(0)) for name in ("captured_greedy", "static")}
        assert len(lengths) == 1, "they write different tokens"
        found = rates(runs, rounds, device)
        for name in ("greedy", "sample"):
            figures[f"captured_{name}_vs_generate{suffix}"] = ratio(found, f"captured_{name}", name)
        figures[f"captured_greedy_vs_static_generate{suffix}"] = ratio(
            found, "captured_greedy", "static"
        )
    return figures


def training(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time an update of each method, and of TRL's GKD trainer for causal models."""
    batch, model = toy.batch(device), (policy, idle(policy))
    runs = {name: updates(*model, [batch], method) for name, method in METHODS.items()}
    runs["mle"] = updates(*model, [batch], MLE())
    others = distillers(policy, batch, model[1])
    times = side_by_side(runs | others, rounds=rounds, device=device)
    figures = {f"{name}_vs_mle": ratio(times, name, "mle") for name in METHODS}
    figures |= {f"{name}_vs_two_pass_ss": ratio(times, name, "two_pass_ss") for name in others}
    return figures | {"mle_seconds": statistics.median(times["mle"])}


def searching(kind: str, rounds: int, device: torch.device, rows: int) -> Figures:
    """Time an update of SEARNN at the size of arithmetic, and the fractions of its parts."""
    toy = Toy(tokens=40, least=6, most=10, prompt=20, rows=rows)
    policy = toy.policy(kind, device, updates=5 * rows)
    batch, model = toy.batch(device), (policy, idle(policy))
    runs = {"searnn": updates(*model, [batch], SEARCH), "mle": updates(*model, [batch], MLE())}
    times = side_by_side(runs, rounds=rounds, device=device)
    figures = {"searnn_vs_mle": ratio(times, "searnn", "mle")}
    figures["searnn_seconds"] = statistics.median(times["searnn"])
    shares: dict[str, list[float]] = {name: [] for name in (*PARTS, "loss")}
    for _ in range(rounds):
        with timed(device) as spent:
            whole = seconds(runs["searnn"], device)
        spent["loss"] = whole - sum(spent.values())
        for name, took in spent.items():
            shares[name].append(took / whole)
    return figures | {f"searnn_{name}_share": statistics.median(v) for name, v in shares.items()}


def measure(kind: str, rounds: int, device: torch.device, quick: bool) -> Figures:
    """Return all figures of one model."""
    toy = Toy(most=12, rows=8) if quick else Toy()
    policy = toy.policy(kind, device, updates=20 if quick else 150)
    captured: Figures = {}
    if quick or device.type == "cuda":  # on a CPU only to try that it runs
        captured = capturing(policy, toy, rounds, device)
    return (
        decoding(policy, toy, rounds, device)
        | captured
        | training(policy.train(), toy, rounds, device)
        | searching(kind, rounds, device, 8 if quick else 32)
    )


if __name__ == "__main__":
    benchmark(__doc__.splitlines()[0], KINDS, measure, lambda key: "generate" in key)
