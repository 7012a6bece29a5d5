"""Folders of runs and of models, in which one file is damaged or hostile."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.bases import RUN, list_commands, observe
from tests.fuzz.cases import TRAINING, Case, Maker, Outcome, Place
from tests.fuzz.damage import DEEP, damage_file


def make_run(name: str, *, stopped: bool = False) -> Maker:
    """Return what damages one file of a run.

    Args:
        name: the run.
        stopped: whether it was interrupted, so that it is resumed.
    """

    def make(place: Place) -> Case:
        random, runs = place.random, place.bases / "runs"
        full = f"{name} stopped" if stopped else name
        shutil.copytree(runs / full / RUN, RUN)
        twin = runs / full.replace(name, f"{name} twin") / RUN
        files = sorted(path for path in Path(RUN).rglob("*") if path.is_file())
        # Those that are read are tried more often than those of older checkpoints.
        newest = "checkpoint-2" if stopped else RUN
        near = [path for path in files if path.parent.name == newest]
        path = random.choice(near if near and random.random() < 0.7 else files)
        inner = path.relative_to(RUN)
        what = f"{inner}: {damage_file(path, twin / inner, random)}"
        commands = list_commands(place.bases, name, stopped=stopped)
        number = random.randrange(len(commands))
        wanted = place.expected[f"{full} {number}"]

        def check(outcomes: list[Outcome]) -> str | None:
            found = observe(commands[number], outcomes[-1].output)
            wrong = [key for key in wanted if found.get(key) != wanted[key]]
            return f"{commands[number][0]}: other {', '.join(wrong)} ({what})" if wrong else None

        return Case(what, [commands[number]], check)

    return make


class _Executed:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


def make_model(name: str) -> Maker:
    """Return what damages one file of a model that others trained, or makes it hostile."""

    def make(place: Place) -> Case:
        random = place.random
        shutil.copytree(place.bases / name, "model")
        folder = Path("model")
        if random.random() < 0.3:
            what = _make_hostile(folder, place)
        else:
            path = random.choice(sorted(folder.iterdir()))
            twin = place.bases / ("gpt2" if name == "t5" else "t5") / path.name
            what = f"{path.name}: {damage_file(path, twin, random)}"
        data = place.bases / "rows.jsonl"
        if name == "chat":
            data = Path("messages.jsonl")
            data.write_text("".join(_message(number) for number in range(24)))
        words = ["train", "pairs", "--data", str(data), "--model", "model"]

        def check(outcomes: list[Outcome]) -> str | None:
            if Path("executed").exists():
                return "code was executed"
            return "a file outside was read" if "outside" in what else None

        return Case(what, [[*words, "--output", RUN, *TRAINING]], check)

    return make


def _message(number: int) -> str:
    turns = [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": "a"}]
    return json.dumps({"messages": turns}) + "\n"


def _make_hostile(folder: Path, place: Place) -> str:
    """Change a model so that loading it would run code, read elsewhere or never end."""
    random = place.random
    code = "import pathlib\npathlib.Path('executed').touch()\n"
    kinds = ["auto_map", "kernel", "pickle", "quantized", "template", "link"]
    index = folder / "model.safetensors.index.json"
    kinds += ["index"] * 4 if index.exists() else []
    kind = random.choice(kinds)
    config = folder / "config.json"
    if kind in ("auto_map", "kernel", "quantized") and config.exists():
        found = json.loads(config.read_text())
        (folder / "evil.py").write_text(code)
        if kind == "auto_map":
            names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
            found["auto_map"] = dict.fromkeys(names, "evil.Evil")
            found["model_type"] = random.choice([found["model_type"], "evil"])
        elif kind == "kernel":
            key = random.choice(["attn_implementation", "_attn_implementation"])
            found[key] = random.choice(["kernels-community/flash-attn", "flash_attention_2", "x"])
        else:
            method = random.choice(["bitsandbytes", "gptq", "x"])
            found["quantization_config"] = {"quant_method": method, "load_in_4bit": True}
        config.write_text(json.dumps(found))
        return kind
    if kind == "index":
        (place.folder / "elsewhere").mkdir()
        whole = json.loads(index.read_text())
        first = random.choice(sorted(set(whole["weight_map"].values())))
        shutil.move(folder / first, place.folder / "elsewhere" / first)
        outside = random.choice(["../elsewhere", str(place.folder / "elsewhere")])
        for name, file in whole["weight_map"].items():
            whole["weight_map"][name] = f"{outside}/{first}" if file == first else file
        index.write_text(json.dumps(whole))
        return "the index names a file outside"
    if kind == "link":
        weights = next(folder.glob("*.safetensors"))
        shutil.move(weights, "weights")
        weights.symlink_to(Path("weights").resolve())
        return "weights behind a link"  # as in the cache of the hub, so that it is allowed
    if kind == "template":
        endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
        text = random.choice(
            [endless, DEEP, "{{ ''.__class__.__mro__ }}", "{% if %}", "{{ x.y.z }}"]
        )
        (folder / "chat_template.jinja").write_text(text)
        return f"chat template {text:.40}"
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Executed()))
    return "pickled weights"


KINDS: dict[str, tuple[Maker, int]] = {
    "run: recurrent": (make_run("recurrent"), 8),
    "run: recurrent, resumed": (make_run("recurrent", stopped=True), 7),
    "run: causal": (make_run("causal"), 5),
    "run: causal, resumed": (make_run("causal", stopped=True), 6),
    "run: adapters": (make_run("lora"), 4),
    "run: adapters, resumed": (make_run("lora", stopped=True), 4),
    "run: comparison": (make_run("compare"), 4),
    "run: comparison, resumed": (make_run("compare", stopped=True), 2),
    "model: GPT-2": (make_model("gpt2"), 5),
    "model: T5": (make_model("t5"), 4),
    "model: shards": (make_model("shards"), 4),
    "model: adapters": (make_model("adapters"), 3),
    "model: chat": (make_model("chat"), 3),
}
"""What makes each kind of case, and how many of it there are among all."""
