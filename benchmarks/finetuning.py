"""Fine-tuning with LoRA, relative to plain transformers: start, time and memory of an update.

Run `python benchmarks/finetuning.py MODEL --json finetuning.json`, where MODEL is the folder of a
causal model or an encoder-decoder with its tokenizer; without it, a GPT-2 with random weights is
made. All runs are new processes, ours and theirs in turn, on the same rows, with the same LoRA.

- `startup`: from the command `freerun train` to the first step of the optimizer, divided by the
  time of a script that imports transformers and peft, loads the model, adds LoRA, and does one
  forward and one backward pass on a batch of the same size. On a busy machine, use the ratio of CPU
  times, `startup_cpu`.
- `update`: an update of `freerun.training.Trainer` by MLE, divided by one of transformers' Trainer.
  Each sees the same batch in every update; the first update is not counted. `update_cpu` is the
  ratio of CPU times.
- `memory`: the same ratio of the peak memory of the whole process.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from startup import OURS, measure, prepare_model, prepare_rows
from timing import parse, parser, write
from transformers import AutoConfig, AutoTokenizer

BATCH, RANK = 16, 16
LETTERS = 80, 40
"""The number of letters of prompts and completions."""

PLAIN = """
import os, sys, time, torch
from peft import LoraConfig, get_peft_model
from transformers import {auto}
folder, threads, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
model = {auto}.from_pretrained(folder, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(**{lora}))
tokens = torch.randint(0, model.config.vocab_size, ({batch}, length))
model(input_ids=tokens, labels=tokens).loss.backward()
print(time.time(), flush=True)
os._exit(0)
"""


def get_auto(config: Any) -> str:
    """Return the class that loads a model."""
    return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"


def get_lora(config: Any) -> dict[str, Any]:
    """Return what `--model.lora` stands for."""
    return {
        "task_type": "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": "all-linear",
        "fan_in_fan_out": config.model_type == "gpt2",
    }


def encode(tokenizer: Any, both: bool, rows: Path) -> list[dict[str, list[int]]]:
    """Return one batch of rows as `input_ids` and `labels`, for both trainers.

    Labels stand alone where there is `both` an encoder and a decoder.
    """
    found = []
    for line in rows.read_text().splitlines()[:BATCH]:
        row = json.loads(line)
        prompt, completion = (
            tokenizer(row[name], add_special_tokens=False).input_ids
            for name in ("prompt", "completion")
        )
        completion = [*completion, tokenizer.eos_token_id]
        ids = prompt if both else prompt + completion
        labels = completion if both else [-100] * len(prompt) + completion
        found.append({"input_ids": ids, "labels": labels})
    return found


def train(ours: bool, setting: Setting) -> tuple[float, float, float, float]:
    """Train in this process.

    Returns the seconds and CPU seconds of an update, the peak memory in MB, and the first loss.

    Rows, LoRA and settings of both trainers are the same.
    """
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.set_num_threads(setting.threads)
    before, after = [], []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            before.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            after.append((time.perf_counter(), time.process_time()))

    args = transformers.TrainingArguments(
        str(setting.folder / "trained"),
        max_steps=setting.updates,
        per_device_train_batch_size=BATCH,
        learning_rate=2e-4,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    config = transformers.AutoConfig.from_pretrained(setting.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(setting.model)
    auto = getattr(transformers, get_auto(config))
    model = auto.from_pretrained(setting.model, dtype=torch.float32)
    adapters = LoraConfig(**get_lora(config))
    data = encode(tokenizer, config.is_encoder_decoder, setting.folder / "rows.jsonl")
    members: dict[str, Any] = {"args": args, "train_dataset": data, "callbacks": [Clock()]}
    members["processing_class"] = tokenizer
    if ours:
        from freerun.training import Trainer

        trainer: Any = Trainer(model, "mle", peft_config=adapters, **members)
    else:
        model, collator = (
            get_peft_model(model, adapters),
            transformers.DataCollatorForSeq2Seq(tokenizer),
        )
        trainer = transformers.Trainer(model, data_collator=collator, **members)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pairs = list(zip(before, after, strict=True))[1:]
    times = [statistics.median(end[n] - start[n] for start, end in pairs) for n in (0, 1)]
    return times[0], times[1], peak, trainer.state.log_history[0]["loss"]


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        folder: a folder for the runs, which has the rows.
        model: the folder of the model.
        updates: the number of updates of a run.
        threads: the number of CPU threads.
    """

    folder: Path
    model: str
    updates: int
    threads: int

    def starts(self, number: int) -> list[tuple[float, float]]:
        """Return the seconds and CPU seconds to the first update, ours and theirs."""
        config = AutoConfig.from_pretrained(self.model)
        tokenizer = AutoTokenizer.from_pretrained(self.model)
        rows = encode(tokenizer, config.is_encoder_decoder, self.folder / "rows.jsonl")
        length = max(len(row["input_ids"]) for row in rows)
        script = PLAIN.format(auto=get_auto(config), lora=get_lora(config), batch=BATCH)
        words = ["train", "pairs", "--data", str(self.folder / "rows.jsonl"), "--quiet"]
        words += ["--model", self.model, "--model.lora", str(RANK)]
        words += ["--output", str(self.folder / f"run-{number}")]
        words += ["--training.batch_size", str(BATCH), "--training.threads", str(self.threads)]
        return [
            measure(OURS, words, self.threads),
            measure(script, [self.model, str(self.threads), str(length)], self.threads),
        ]

    def runs(self) -> list[tuple[float, ...]]:
        """Return the seconds and CPU seconds of an update and the peak, ours and theirs."""
        found, context = [], multiprocessing.get_context("spawn")
        for ours in (True, False):
            with context.Pool(1) as pool:
                found.append(pool.apply(train, (ours, self)))
        losses = [loss for *_, loss in found]
        assert math.isclose(*losses, rel_tol=0.02), f"the losses differ: {losses}"
        return [each[:-1] for each in found]


def main() -> None:
    """Measure, and print and write the figures."""
    options = parser(__doc__.splitlines()[0], rounds=5)
    options.add_argument("model", nargs="?", help="the folder of a model; by default a new GPT-2")
    options.add_argument("--updates", type=int, default=6, help="updates of a run (default 6)")
    given = parse(options)
    starts, runs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_rows(folder, *LETTERS)
        model = given.model or str(prepare_model(folder, 1 if given.quick else 12))
        updates = min(given.updates, 3) if given.quick else given.updates
        setting = Setting(folder, model, updates, given.threads)
        for number in range(given.rounds + 1):
            found = setting.starts(number), setting.runs()
            if number > 0:  # the first round reads all files into memory
                starts.append(found[0])
                runs.append(found[1])
    figures = {}
    for key, pairs, which in (
        ("startup", starts, 0),
        ("startup_cpu", starts, 1),
        ("update", runs, 0),
        ("update_cpu", runs, 1),
        ("memory", runs, 2),
    ):
        ratio = statistics.median(own[which] / other[which] for own, other in pairs)
        figures[key] = round(ratio, 3)
        unit = "mb" if key == "memory" else "seconds"
        figures[f"{key}_plain_{unit}"] = round(statistics.median(o[which] for _, o in pairs), 2)
    write(figures, given.json)


if __name__ == "__main__":
    main()
