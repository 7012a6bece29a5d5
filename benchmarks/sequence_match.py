"""Time SequenceMatch relative to MLE and to copied rows, and sampling with backspaces.

Run `python benchmarks/sequence_match.py --json sequence_match.json`. Ratios are of figures measured
side by side in this run, for two models with 4 layers of 128; a key without the name of a model is
the worse of them. Sampling is measured in actions per second.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from copied_rows import copied
from counting import EOS, Toy
from each_model import Figures, benchmark
from roll_outs import idle
from timing import ratio, side_by_side
from torch import Tensor

from freerun.backspaces import AnyToken, build_tree, insert_noise
from freerun.batch import Batch
from freerun.decoding import decode_with, sample, sample_tokens
from freerun.methods import MLE, Clock, Method, SequenceMatch
from freerun.models.huggingface import HuggingFacePolicy, adapt
from freerun.randomness import uniform

KINDS = ("gpt2", "llama")
FORCED = 0.05
"""The fraction of actions that are backspaces when sampling is timed."""
EVERY = 10
"""An update of these samples, and so many samplings are kept."""
ALWAYS = {"warm_up": 0.0, "anneal": 0.0, "floor": 0.2}


def updates(
    policy: HuggingFacePolicy, batch: Batch, method: Method, steps: range
) -> Callable[[], None]:
    """Run updates of a method, including `after_update`."""
    optimizer, total = idle(policy), 10**6

    def run() -> None:
        for step in steps:
            optimizer.zero_grad()
            clock = Clock(step, total)
            outcome = method.loss(policy, batch, clock)
            (outcome.total / outcome.count).backward()
            optimizer.step()
            if isinstance(method, SequenceMatch):
                method.after_update(policy, clock)

    return run


def matched(policy: HuggingFacePolicy, batch: Batch, **settings: object) -> SequenceMatch:
    """Return the method with a full buffer."""
    method = SequenceMatch(**ALWAYS, samplings=EVERY, **settings)
    for number in range(EVERY):
        found = sample(policy, batch.source, ids=batch.ids, seed=number)
        method.buffer.add(batch.ids, batch.source, *found.all_actions, number)
        method.buffer.commit(EVERY)
    return method


def training(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time an update without sampling, and several of which one samples, relative to MLE."""
    batch, never = toy.batch(device), 10**9
    plain = adapt(policy.model, replace(toy, backspace=False).vocabulary, limit=toy.most).train()
    several = range(1, 1 + EVERY)
    runs = {
        "mle": updates(plain, batch, MLE(), range(1, 2)),
        "step": updates(policy, batch, matched(policy, batch, period=never), range(1, 2)),
        "noisy_step": updates(
            policy, batch, matched(policy, batch, period=never, noise=FORCED), range(1, 2)
        ),
        "several_mle": updates(plain, batch, MLE(), several),
        "amortised": updates(policy, batch, matched(policy, batch, period=EVERY), several),
    }
    times = side_by_side(runs, rounds=rounds, device=device)
    return {
        "step_vs_mle": ratio(times, "step", "mle"),
        "noisy_step_vs_mle": ratio(times, "noisy_step", "mle"),
        "amortised_vs_mle": ratio(times, "amortised", "several_mle"),
        "mle_seconds": statistics.median(times["mle"]),
    }


def rows(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time one row per prefix relative to one per action, with many withdrawn tokens."""
    batch, words, figures = toy.batch(device), toy.vocabulary, {}
    for rate in (FORCED, 0.5):
        data = insert_noise(
            batch.target,
            batch.mask,
            AnyToken.build(words.actions, [EOS, words.backspace]),
            rate=rate,
            backspace=words.backspace,
            pad=words.pad,
            names=(0,),
            ids=batch.ids,
        )
        named = {"bos": words.bos, "pad": words.pad, "backspace": words.backspace}
        tree = build_tree(data.actions, data.mask, **named)
        copies = copied(tree, data.actions, data.mask, words.backspace)

        def passed(tokens: Tensor, parents: Tensor, cells: Tensor) -> None:
            policy.zero_grad()
            policy.force(batch.source, tokens, parents).logits(cells).logsumexp(-1).sum().backward()

        runs = {
            "tree": lambda: passed(tree.tokens, tree.parents, tree.mask),  # noqa: B023
            "copy": lambda: passed(*copies),  # noqa: B023
        }
        times = side_by_side(runs, rounds=rounds, device=device)
        suffix = "" if rate == FORCED else f"_at_{rate}"
        figures[f"tree_vs_copy{suffix}"] = ratio(times, "tree", "copy")
    return figures


def sampling(policy: HuggingFacePolicy, toy: Toy, rounds: int, device: torch.device) -> Figures:
    """Time the same number of actions per row, with and without backspaces."""
    batch, back = toy.batch(device, fixed=True), toy.vocabulary.backspace
    plain = adapt(policy.model, replace(toy, backspace=False).vocabulary, limit=toy.most)

    def choose(scores: Tensor, ids: Tensor, cell: int, share: float) -> tuple[Tensor, Tensor]:
        scores = scores.clone()
        scores[:, [EOS, back]] = -torch.inf
        log_probs = scores.log_softmax(-1)
        tokens = sample_tokens(log_probs, 0, "sample", batch.ids[ids], cell)
        forced = uniform(0, "forced", batch.ids[ids], cell) < share
        tokens = torch.where(forced, back, tokens)
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    runs = {
        "plain": lambda: decode_with(plain, batch.source, lambda *a: choose(*a, 0.0)),
        "backspaces": lambda: decode_with(policy, batch.source, lambda *a: choose(*a, FORCED)),
    }
    times = side_by_side(runs, rounds=rounds, device=device)
    actions = toy.rows * toy.most
    return {
        "sampling_vs_plain": ratio(times, "plain", "backspaces"),
        "sampling_actions_per_s": round(actions / statistics.median(times["backspaces"])),
        "plain_actions_per_s": round(actions / statistics.median(times["plain"])),
    }


def measure(kind: str, rounds: int, device: torch.device, quick: bool) -> Figures:
    """Return all figures of one model."""
    toy = Toy(most=12, rows=8, backspace=True) if quick else Toy(backspace=True)
    policy = toy.policy(kind, device, updates=20 if quick else 150)
    return (
        sampling(policy, toy, rounds, device)
        | training(policy.train(), toy, rounds, device)
        | rows(policy, toy, rounds, device)
    )


if __name__ == "__main__":
    benchmark(__doc__.splitlines()[0], KINDS, measure, lambda key: key == "sampling_vs_plain")
