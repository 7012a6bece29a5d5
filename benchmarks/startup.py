"""Time from the start of a command to its first update, relative to plain transformers.

Run `python benchmarks/startup.py --json startup.json`. The model is a GPT-2 with 124 M random
weights in a folder. The baseline is a new Python process that imports transformers, loads the model
by `from_pretrained`, and runs one forward and one backward pass on a batch of 64 rows (the default
of `freerun train`) of 32 tokens. Ours is `freerun train` on rows in a file, also in a new process,
up to the optimizer's first step on such a batch: reading and encoding the rows, loading tokenizer
and model, all checks, and both passes. On a busy machine, use the ratio of CPU times,
`startup_cpu`. `help_seconds`, `import_seconds` and `digits_seconds` are the times of
`freerun --help`, of `import freerun`, and from `freerun train digits` to its first update;
`trainer_import_seconds` is that of a process that imports transformers' `Trainer` and nothing else.

`comparison_share` is the share of updates and evaluation in the CPU time of `freerun compare
digits` with two methods, two seeds and 200 updates; `comparison_share_imported` is that of the time
after everything is imported.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import parse, parser, write
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

PROMPT, COMPLETION, BATCH, ROWS = 16, 15, 64, 400
VOCABULARY = 50257
CACHE = tempfile.TemporaryDirectory()
"""What freerun remembers from the first round, which is not counted, as of a model used before."""

PLAIN = """
import os, sys, time, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(int(sys.argv[2]))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
tokens = torch.randint(0, model.config.vocab_size, ({batch}, {length}))
model(input_ids=tokens, labels=tokens).loss.backward()
print(time.time(), flush=True)
os._exit(0)
"""
OURS = """
import os, sys, time, torch
from freerun.cli import main
def step(self, *args, **kwargs):
    print(time.time(), flush=True)
    os._exit(0)
for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
    kind.step = step
sys.exit(main())
"""
HELP = """
import contextlib, io, sys, time
sys.argv[1:] = ["--help"]
from freerun.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main()
print(time.time())
"""
IMPORT = """
import freerun, time
print(time.time())
"""
TRAINER = """
import time
from transformers import Trainer
print(time.time())
"""
COMPARISON = """
import sys, time
import accelerate
from freerun.cli import main
from freerun.study import comparison, work
from freerun.training.trainer import RunTrainer
imported, spent = time.process_time(), 0.0
def count(owner, name):
    plain = getattr(owner, name)
    def counted(*args, **kwargs):
        global spent
        start = time.process_time()
        found = plain(*args, **kwargs)
        spent += time.process_time() - start
        return found
    setattr(owner, name, counted)
for name in ("get_batch_samples", "training_step", "evaluate"):
    count(RunTrainer, name)
count(accelerate.Accelerator, "clip_grad_norm_")
count(accelerate.optimizer.AcceleratedOptimizer, "step")
count(work, "evaluate_run")
main()
total = time.process_time()
print(spent / total, spent / (total - imported))
"""


def prepare_model(folder: Path, layers: int) -> Path:
    """Write a GPT-2 with random weights and its tokenizer; return its folder."""
    # Every byte is a token, and there are as many tokens as GPT-2 has.
    tokens = ["<eos>", *sorted(ByteLevel.alphabet())]
    tokens += [f"<{i}>" for i in range(len(tokens), VOCABULARY)]
    plain = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, merges=[]))
    plain.pre_tokenizer = ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    special = {"eos_token": "<eos>", "pad_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, **special)
    config = GPT2Config(n_layer=layers, eos_token_id=0, bos_token_id=0, pad_token_id=0)
    model = folder / "model"
    GPT2LMHeadModel(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    return model


def prepare_rows(folder: Path, prompt: int, completion: int) -> Path:
    """Write rows with so many random letters; return their file."""
    letters = torch.randint(
        26, (ROWS, prompt + completion), generator=torch.Generator().manual_seed(0)
    )
    with (folder / "rows.jsonl").open("w") as file:
        for row in letters.tolist():
            text = "".join(chr(ord("a") + letter) for letter in row)
            columns = {"prompt": text[:prompt], "completion": text[prompt:]}
            file.write(json.dumps(columns) + "\n")
    return folder / "rows.jsonl"


def measure(script: str, words: list[str], threads: int) -> tuple[float, float]:
    """Run a script; return the seconds until the time that it prints last, and its CPU time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    *_, end = run(script, words, threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return float(end) - start, used


def run(script: str, words: list[str], threads: int) -> list[str]:
    """Run a script in a new process; return the words that it prints."""
    # Compiled modules are kept, as in the environments of users.
    variables = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**variables, "OMP_NUM_THREADS": str(threads), "FREERUN_CACHE": CACHE.name},
    )
    return done.stdout.split()


def main() -> None:
    """Measure, and print and write the figures."""
    options = parse(parser(__doc__.splitlines()[0], rounds=5))
    plain, ours, waits, shares = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        model = prepare_model(Path(name), layers=2 if options.quick else 12)
        rows = prepare_rows(Path(name), PROMPT, COMPLETION)
        script = PLAIN.format(batch=BATCH, length=PROMPT + COMPLETION + 1)
        for number in range(options.rounds + 1):
            words = ["train", "pairs", "--data", str(rows), "--model", str(model), "--quiet"]
            words += ["--output", f"{name}/run-{number}", "--training.batch_size", str(BATCH)]
            words += ["--training.threads", str(options.threads)]
            times = [
                measure(script, [str(model), str(options.threads)], options.threads),
                measure(OURS, words, options.threads),
            ]
            digits = ["train", "digits", "--quiet", "--output", f"{name}/digits-{number}"]
            digits += ["--training.threads", str(options.threads)]
            plainly = (HELP, IMPORT, TRAINER)
            wait = [measure(script, [], options.threads)[0] for script in plainly]
            wait.append(measure(OURS, digits, options.threads)[0])
            compare = ["compare", "digits", "--methods", "mle", "scheduled_sampling", "--quiet"]
            compare += ["--seeds", "2", "--output", f"{name}/compare-{number}"]
            compare += ["--training.updates", "20" if options.quick else "200"]
            share = run(COMPARISON, compare, 1)[-2:]
            if number > 0:  # the first round reads all files into memory
                plain.append(times[0])
                ours.append(times[1])
                waits.append(wait)
                shares.append([float(each) for each in share])
    figures = {}
    for name, which in (("startup", 0), ("startup_cpu", 1)):
        pairs = zip(ours, plain, strict=True)
        ratio = statistics.median(own[which] / other[which] for own, other in pairs)
        figures[name] = round(ratio, 3)
        figures[f"{name}_plain_seconds"] = round(statistics.median(t[which] for t in plain), 2)
    keys = ("help", "import", "trainer_import", "digits")
    for key, values in zip(keys, zip(*waits, strict=True), strict=True):
        figures[f"{key}_seconds"] = round(statistics.median(values), 3)
    for key, values in zip(("", "_imported"), zip(*shares, strict=True), strict=True):
        figures[f"comparison_share{key}"] = round(statistics.median(values), 3)
    write(figures, options.json)


if __name__ == "__main__":
    main()
