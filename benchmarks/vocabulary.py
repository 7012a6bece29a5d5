"""Updates of a language model with 50,000 words, relative to transformers' Trainer.

A GPT-2 of 6 layers and 384 units is trained on 8 rows of 256 tokens. Each run is a new process, all
methods in turn, on the same rows.

- `mle_time`, `mle_memory`: an update of MLE, and the peak memory of the process, relative to
  transformers' Trainer.
- `ss_time`, `ss_memory`: scheduled sampling in two passes, where half of the tokens are own ones,
  relative to MLE.
"""

from __future__ import annotations

import math
import multiprocessing
import resource
import statistics
import tempfile
import time
from typing import Any

import torch
from timing import parse, parser, write

WORDS, ROWS, LENGTH = 50_000, 8, 256
RUNS = ("mle", "ss", "plain")


def make_tokenizer() -> Any:
    """Return a tokenizer whose tokens are numbers."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({str(number): number for number in range(WORDS)}, "0")
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "0")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), **special)


def train(name: str, layers: int, updates: int, threads: int) -> tuple[float, float, float]:
    """Train; return the seconds of an update, the peak in MB, and the first loss."""
    import transformers

    from freerun.methods import ScheduledSampling
    from freerun.training import Trainer

    torch.set_num_threads(threads)
    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times[-1] += time.perf_counter()

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_layer=layers, n_embd=384, n_head=6, n_positions=LENGTH + 1,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(1, WORDS, (ROWS, LENGTH)).tolist()
    data = [{"input_ids": row, "labels": [-100, *row[1:]]} for row in tokens]
    with tempfile.TemporaryDirectory() as folder:
        args = transformers.TrainingArguments(
            folder, max_steps=updates, per_device_train_batch_size=ROWS, logging_steps=1,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        if name == "plain":
            collator = transformers.default_data_collator
            trainer: Any = transformers.Trainer(model, args, collator, data, callbacks=[Clock()])
        else:
            method = "mle"
            if name == "ss":
                method = ScheduledSampling(schedule="constant", k=0.5, passes=2)
            members: Any = {"processing_class": make_tokenizer(), "train_dataset": data}
            trainer = Trainer(model, method, args, callbacks=[Clock()], **members)
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(times[1:]), peak, trainer.state.log_history[0]["loss"]


def main() -> None:
    """Measure, and print and write the figures."""
    options = parser(__doc__.splitlines()[0], rounds=5)
    options.add_argument("--updates", type=int, default=4, help="updates of a run (default 4)")
    given = parse(options)
    layers = 1 if given.quick else 6
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in RUNS}
    for _ in range(given.rounds):
        losses = {}
        for name in RUNS:
            with context.Pool(1) as pool:
                run = (name, layers, given.updates, given.threads)
                *figures, losses[name] = pool.apply(train, run)
            found[name].append(tuple(figures))
        assert math.isclose(losses["mle"], losses["plain"], rel_tol=1e-5), f"they differ: {losses}"
    figures = {"threads": given.threads, "torch": torch.__version__}
    for name, base in (("mle", "plain"), ("ss", "mle")):
        for which, key in enumerate(("time", "memory")):
            pairs = zip(found[name], found[base], strict=True)
            ratio = statistics.median(one[which] / other[which] for one, other in pairs)
            figures[f"{name}_{key}"] = round(ratio, 3)
    figures["plain_seconds"] = round(statistics.median(each[0] for each in found["plain"]), 3)
    figures["plain_mb"] = round(statistics.median(each[1] for each in found["plain"]))
    write(figures, given.json)


if __name__ == "__main__":
    main()
