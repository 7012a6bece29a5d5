"""What is damaged: small runs and models that are good, and what commands on them give."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fuzz.cases import MODEL, Words
from tests.fuzz.run import run_command

LETTERS = "abcdefgh"
RUN = "run"
EVERY = ["--training.updates", "4", "--training.evaluate_every", "1", "--training.batch_size", "4"]
QUIET = ["--training.threads", "1", "--quiet", "--output", RUN]
SMALL = ["--model.hidden_size", "8", "--model.layers", "1", "--model.heads", "2"]


def _train(bases: Path, *words: str) -> Words:
    return ["train", "pairs", "--data", str(bases / "rows.jsonl"), *words, *EVERY, *QUIET]


def list_trainings(bases: Path) -> dict[str, Words]:
    """Return the command that makes each run, by the name of the run."""
    letters = ["--task.target_tokens", "bytes"]
    mixed = ["--method", "scheduled_sampling", *MODEL, *letters]
    withdrawn = ["--method", "sequence_match", "--model", "causal", *SMALL, *letters]
    tuned = ["--model", str(bases / "gpt2"), "--model.lora", "2"]
    found = {
        "recurrent": _train(bases, *mixed),
        "causal": _train(bases, *withdrawn),
        "lora": _train(bases, *tuned),
    }
    found["recurrent twin"] = [*found["recurrent"], "--seed", "1"]
    found["causal twin"] = [*found["causal"], "--seed", "1"]
    found["lora twin"] = [*found["lora"], "--seed", "1"]
    task = ["--task.train_size", "20", "--task.dev_size", "5", "--task.test_size", "5"]
    compared = ["--methods", "mle", "scheduled_sampling", "--seeds", "1"]
    found["compare"] = ["compare", "arithmetic", *task, *compared, *MODEL, *EVERY, *QUIET]
    return found


def list_commands(bases: Path, name: str, *, stopped: bool) -> list[Words]:
    """Return what is tried on a damaged copy of a run."""
    again = list_trainings(bases)[name]
    if name == "compare" or stopped:
        return [again]
    predict = ["predict", RUN, str(bases / "in.txt")]
    evaluate = ["evaluate", RUN, "--json", "figures.json"]
    return [predict, evaluate, again]


def make_bases(bases: Path) -> dict[str, Any]:
    """Make everything in a folder; return what commands on the runs give, by run and command."""
    bases.mkdir()
    rows = [{"prompt": f"{a}{b}{a}", "completion": f"{b}{a}"} for a in LETTERS[:6] for b in LETTERS]
    (bases / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (bases / "in.txt").write_text("abc\nhgf\n")
    _write_bomb(bases / "bomb.zip")
    _make_models(bases)
    expected: dict[str, Any] = {}
    for name, words in list_trainings(bases).items():
        for stopped in (False, True):
            folder = bases / "runs" / (f"{name} stopped" if stopped else name)
            folder.mkdir(parents=True)
            os.chdir(folder)
            with _interrupted(3 if stopped else 0):
                done = run_command(words)
            if done.status != (130 if stopped else 0):
                raise RuntimeError(f"{name}: {done}")
            copy = bases / "copy"
            for number, command in enumerate(list_commands(bases, name, stopped=stopped)):
                shutil.copytree(folder, copy)
                os.chdir(copy)
                outcome = run_command(command)
                if outcome.status != 0:
                    raise RuntimeError(f"{name}: {command}: {outcome}")
                expected[f"{folder.name} {number}"] = observe(command, outcome.output)
                os.chdir(folder)
                shutil.rmtree(copy)
            if stopped and name != "compare":
                resumed, whole = expected[f"{name} stopped 0"], expected[f"{name} 2"]
                if any(resumed[key] != whole[key] for key in ("weights", "dev")):
                    raise RuntimeError(f"resumed: {resumed}\nuninterrupted: {whole}")
    shutil.copytree(bases / "runs" / "recurrent" / RUN, bases / "recurrent")
    return expected


def observe(command: Words, output: str) -> dict[str, Any]:
    """Return what a command on a run in the current folder gave: what must not change."""
    weights = sorted(Path(RUN).glob("*.safetensors"))
    found: dict[str, Any] = {
        "output": output if not Path(RUN, "comparison.json").exists() else "",
        "weights": {path.name: _digest(path) for path in weights},
    }
    for path in (Path("figures.json"), Path(RUN, "comparison.json")):
        if path.exists():
            found[path.name] = _without_times(json.loads(path.read_text()))
    record = Path(RUN, "freerun.json")
    if command[0] == "train":
        found["dev"] = json.loads(record.read_text())["results"]["dev"]
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


def _without_times(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _without_times(v) for k, v in node.items() if "second" not in k}
    return [_without_times(value) for value in node] if isinstance(node, list) else node


@contextmanager
def _interrupted(update: int) -> Iterator[None]:
    """Press Ctrl-C before an update; 0 for never."""
    import torch

    kinds = (torch.optim.Adam, torch.optim.AdamW)
    own, count = [kind.step for kind in kinds], [0]

    def wrap(step: Any) -> Any:
        def counted(*arguments: Any, **settings: Any) -> Any:
            count[0] += 1
            if count[0] == update:
                raise KeyboardInterrupt
            return step(*arguments, **settings)

        return counted

    for kind, step in zip(kinds, own, strict=True):
        kind.step = wrap(step)
    try:
        yield
    finally:
        for kind, step in zip(kinds, own, strict=True):
            kind.step = step


def _make_models(bases: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    from tests.cli.pretrained import save_causal, save_seq2seq
    from tests.tasks.tiny_tokenizers import CHAT

    save_causal(bases / "gpt2")
    save_seq2seq(bases / "t5")
    shutil.copytree(bases / "gpt2", bases / "chat")
    (bases / "chat" / "chat_template.jinja").write_text(CHAT)
    shutil.copytree(bases / "gpt2", bases / "shards")
    model = AutoModelForCausalLM.from_pretrained(bases / "gpt2")
    (bases / "shards" / "model.safetensors").unlink()
    model.save_pretrained(bases / "shards", max_shard_size="4KB")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    peft.get_peft_model(model, config).save_pretrained(bases / "adapters")


def _write_bomb(path: Path) -> None:
    """Write a zip archive with an entry of 2 GB of zeros, which has no name that anybody reads."""
    block = bytes(1 << 24)
    press = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = press.compress(block) + press.flush(zlib.Z_FULL_FLUSH)
    raw = one * 128 + press.flush()
    size, name = 128 << 24, b".unused/zeros.bin"
    head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(raw), size, len(name), 0)
    local = b"PK\x03\x04" + head + name + raw
    central = b"PK\x01\x02" + struct.pack("<H", 20) + head
    central += struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + b"PK\x05\x06" + end)
    with zipfile.ZipFile(path) as archive:
        assert archive.infolist()[0].file_size == size
