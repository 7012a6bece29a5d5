"""Measure whether a model recovers from one wrong token.

For every test example, the model is given the target up to a random cell, followed by a wrong token
of the same kind (a digit for a digit) or, with `--tokens random`, any wrong token, and continues
greedily. The script counts the examples in which the wrong token is withdrawn, and those whose
output is right in the end. Run `python examples/planted_errors.py CHECKPOINT …` with the folders of
runs of `freerun train`.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from freerun.backspaces import WrongTokens
from freerun.batch import Batch
from freerun.decoding import choose_greedily, decode_with, force_actions
from freerun.evaluation import on_device
from freerun.methods import BehaviorCloning
from freerun.policy import Policy
from freerun.randomness import uniform
from freerun.training import load_policy
from freerun.training.tasks import load_examples


def begun(batch: Batch, wrong: WrongTokens, seed: int) -> tuple[Tensor, Tensor]:
    """Return the given tokens, of which the last is wrong, and their number, or 0."""
    cells = torch.arange(batch.target.shape[1])
    possible = batch.mask & wrong.exist(batch.target.masked_fill(~batch.mask, 0))
    draws = uniform(seed, "cell", batch.ids[:, None], cells).masked_fill(~possible, -1)
    at = draws.argmax(1)
    right = batch.target.gather(1, at[:, None])[:, 0]
    token = wrong.choose(right, uniform(seed, "error", batch.ids, dtype=torch.float64))
    tokens = batch.target.scatter(1, at[:, None], token[:, None])
    return tokens, (at + 1) * possible.any(1)


def recovery(policy: Policy, batch: Batch, wrong: WrongTokens, seed: int) -> tuple[int, ...]:
    """Count the examples with a wrong token, those that withdrew it, and those right in the end."""
    words = policy.vocabulary
    given, lengths = begun(batch, wrong, seed)
    limit = torch.maximum(policy.limit(batch.source), lengths + 1)
    choose = force_actions(choose_greedily, given, lengths)
    found = decode_with(policy, batch.source, choose, limit, forbid_repeats=True)
    rows = (lengths > 0).nonzero()[:, 0]
    width = max(found.tokens.shape[1], given.shape[1])
    written = torch.nn.functional.pad(found.tokens, (0, width - found.tokens.shape[1]), value=-1)
    last = (lengths - 1).clamp(min=0)[:, None]
    stands = (written.gather(1, last) == given.gather(1, last))[:, 0] & (found.lengths >= lengths)
    outputs = found.lists(words.eos)
    right = [outputs[row] == batch.target[row][batch.mask[row]].tolist()[:-1] for row in rows]
    return len(rows), int((~stands[rows]).sum()), sum(right)


def main(given: list[str] | None = None) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--tokens", choices=["plausible", "random"], default="plausible")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    for checkpoint in options.checkpoints:
        policy, codec = load_policy(checkpoint)
        task, examples, _ = load_examples(checkpoint, codec, None, None)
        try:
            method = BehaviorCloning(noise_tokens=options.tokens).for_task(task)
            wrong = method.alternatives(policy.vocabulary)
        except ValueError as error:
            parser.error(f"{checkpoint}: {error}".replace("noise_tokens=", "--tokens "))
        batch = on_device(examples.batch(range(len(examples))), policy)
        count, back, right = recovery(policy, batch, wrong, options.seed)
        print(
            f"{checkpoint}: of {count} led astray, {back} took it back ({100 * back / count:.1f} "
            f"%), {right} were right in the end ({100 * right / count:.1f} %)"
        )


if __name__ == "__main__":
    main()
