"""Time an update of each method that learns from costs or own outputs, relative to one of MLE.

Run `python benchmarks/baselines.py --json baselines.json`. Models of the size of the task spelling
are first trained by MLE, so that their outputs end; then each method makes updates on the same
batches, with a learning rate of 0. The target of `ocd_vs_ss` is at most 1.6: both write one output
for each example, and read it once.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from recurrent import Size, batches, spelling
from timing import devices, parse, parser, ratio, side_by_side, write
from updates import make_updates

from freerun.methods import MLE, Clock
from freerun.models.settings import CausalSettings, RecurrentSettings
from freerun.policy import Policy
from freerun.study import parse_method

COSTS = "cost=edit_distance,warm_up=0"
METHODS = {
    "mle": "mle",
    "ss": "scheduled_sampling:schedule=constant,k=0",
    "ss_passes": "scheduled_sampling:schedule=constant,k=0,passes=2",
    "offline_ss": "offline_scheduled_sampling:schedule=constant,k=0,share=1",
    "correction": "answer_correction",
    "self_distillation": "self_distillation:warm_up=0",
    "raml": "raml",
    "raml_by_cost": "raml:cost=edit_distance,temperature=0.1",
    "ocd": "ocd",
    "reinforce_mean": f"reinforce:{COSTS},baseline=mean,samples=1",
    "reinforce_greedy": f"reinforce:{COSTS},baseline=greedy,samples=1",
    "reinforce_learned": f"reinforce:{COSTS},baseline=learned,samples=1",
    "reinforce_4": f"reinforce:{COSTS}",
    "mixer": f"mixer:{COSTS}",
    "mrt_10": f"mrt:{COSTS}",
    "actor_critic": f"actor_critic:{COSTS}",
    "bso_6": "bso:warm_up=0,anneal=0",
    "searnn_5_tokens": "searnn:cost=edit_distance,token_choice=uniform,tokens=5",
}
MODELS = {
    "recurrent": RecurrentSettings(hidden_size=100, embedding_size=100, attention="additive"),
    "causal": CausalSettings(hidden_size=64, layers=2, heads=4),
}


def train(policy: Policy, size: Size, updates: int, device: torch.device) -> None:
    """Train a policy by MLE."""
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for batch in batches(size, updates, device):
        optimizer.zero_grad()
        outcome = MLE().loss(policy, batch, Clock())
        (outcome.total / outcome.count).backward()
        optimizer.step()


def main() -> None:
    """Measure, and print and write the figures."""
    accepted = parser(__doc__.splitlines()[0], rounds=5, device=True)
    accepted.add_argument("--steps", type=int, default=20, help="updates per round (default 20)")
    options = parse(accepted)
    steps, before = (2, 40) if options.quick else (options.steps, 400)
    torch.manual_seed(0)
    figures: dict[str, float | str] = {}
    for device, suffix in devices(options):
        for name, model in MODELS.items():
            size = spelling(2048)
            size = replace(size, batch_size=16) if options.quick else size
            policy = model.build(size.codec).to(device)
            train(policy, size, before, device)
            ready = batches(size, steps, device)
            clocks = [Clock(step, steps) for step in range(steps)]
            runs = {
                key: make_updates(policy, parse_method(spec), ready, clocks)
                for key, spec in METHODS.items()
            }
            times = side_by_side(runs, rounds=options.rounds, device=device)
            for key in runs:
                if key != "mle":
                    figures[f"{name}_{key}_vs_mle{suffix}"] = ratio(times, key, "mle")
            figures[f"{name}_ocd_vs_ss{suffix}"] = ratio(times, "ocd", "ss")
    write(figures, options.json)


if __name__ == "__main__":
    main()
