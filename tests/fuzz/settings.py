"""Configurations and command lines: spelled in all ways, wrong, and hostile."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.cases import TRAINING, Case, Maker, Outcome, Place, Words
from tests.fuzz.damage import DEEP, HUGE, damage_bytes

TASK = ["--task.train_size", "20", "--task.dev_size", "4", "--task.test_size", "4"]
SAFE = [*TASK, "--output", "run", *TRAINING]
"""Flags that keep a run short; they stand last, where they win."""
FLAGGED = {word[2:] for word in SAFE if word.startswith("--")}

# fmt: off
VALUES: dict[str, list[Any]] = {
    "task.digits": [1, 2, 3, 9, None], "task.seed": [0, 1, 7],
    "model.cell": ["gru", "lstm"], "model.hidden_size": [1, 2, 8], "model.embedding_size": [1, 4],
    "model.layers": [1, 2], "model.bidirectional": [True, False], "model.input_feeding": [True, False],
    "model.attention": ["none", "general", "additive"], "model.dropout": [0, 0.0, 0.1, 0.5],
    "training.learning_rate": [0.001, 1e-5, 0.5, 1], "training.accumulation": [1, 2],
    "training.optimizer": ["adam", "adamw", "sgd", "rmsprop"], "training.weight_decay": [0, 0.01],
    "training.lr_schedule": ["constant", "linear", "cosine", "inverse_sqrt"],
    "training.warmup": [0, 0.1, 1, 2.5], "training.clip": [0, 1, 5.0], "training.precision": ["fp32", "bf16"],
    "training.eval_batch_size": [1, 8], "training.patience": [None, 1, 3],
    "training.keep": ["best", "last"], "seed": [0, 1, 12345],
    "method": ["mle", "scheduled_sampling", "mle:label_smoothing=0.1", "searnn:cells=1", "ocd"],
}
"""Right values of settings."""
WRONG: list[Any] = [
    -1, 0, 1.5, 10**12, 1e400, "abc", "", " ", [], [1], {}, {"a": 1}, True, None, "1 2", "0x", "1_0",
    "٣", "１", "1e", "--help", "null", "nan", "inf", "-inf", "1,5", "[1", "{", "&a", "*a", "!!int 3",
]
HOSTILE = [
    "a: &a [*a]\n", "a: &a {b: *a}\nmodel: *a\n", "model: &m {layers: *m}\n",
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(i + 1)}: &{chr(i + 1)} [{', '.join([f'*{chr(i)}'] * 9)}]\n" for i in range(97, 121)),
    f"seed: {HUGE}\n", f"seed: 0x{'f' * 5000}\n", f"a: {DEEP}\n", f"a: {'{' * 5000}\n", f"{DEEP}\n",
    "seed: 2001-99-99\n", "seed: 2001-12-14t21:59:43.10-05:00\n", "seed: 2001-02-30\n", "seed: 190:20:30\n",
    "seed: !!python/object/apply:os.system ['touch executed']\n", "seed: !!timestamp x\n", "seed: !!binary x\n",
    "seed: !!binary '====='\n", "seed: !!set {a}\n", "seed: !!int x\n", "seed: !!float x\n", "seed: !!bool x\n",
    "seed: !!null x\n", "seed: !!omap [a]\n", "seed: !!pairs [a: 1]\n", "seed: !own 1\n", "seed: !!int ''\n",
    "seed: !!float ''\n", "seed: !!map [1]\n", "seed: !!seq {a: 1}\n", "<<: {seed: 1}\n", "<<: [{seed: 1}, 2]\n",
    "model: {<<: {layers: 2}}\n", "<<: 1\n", "? [a]\n: 1\n", "? {a: 1}\n: 1\n", "1: 2\n", "null: 1\n", "true: 1\n",
    "~: 1\n", "2001-01-01: 1\n", "'': 1\n", "seed: 1\nseed: 2\n", "---\nseed: 1\n---\nseed: 2\n", "%YAML 9.9\n---\na: 1\n",
    "%TAG ! x\n", "\tseed: 1\n", "seed:1\n", "- seed\n", "seed\n", "1\n", "null\n", "\n", "# nothing\n", "seed: 'x\n",
    "seed: \"\\ud800\"\n", "seed: \"\\x00\"\n", "seed: |\n", "seed: >\n x\n", "seed: *unknown\n", "seed: @x\n", "seed: `x\n",
    "model: {layers: {a: {b: 1}}}\n", "training: [1]\n", "model.layers: 2\n", "model: causal\n", "model: {kind: causal}\n",
    "model: {kind: [1]}\n", "model: [recurrent]\n", "method: {mle: {}}\n", "method: [mle]\n", "methods: mle\n", "config: x\n",
    "output: 3\n", "quiet: 1\n", "quiet: yes\n", "seed: .inf\n", "seed: .NaN\n", "seed: 1e400\n", "seed: 0o7\n", "seed: 010\n",
    "training: {learning_rate: 1e-3}\n", "training: {learning_rate: .inf}\n", "training: {clip: .nan}\n", "data: 3\n",
    "metrics: bleu\n", "metrics: [nope]\n", "metrics: {a: 1}\n", "init: 1\n", "task: 1\n", "task: {seed: [1]}\n",
]
WORDS = [
    "", " ", "-", "--", "---", "-x", "--x", "--=", "=", "--seed", "--seed=", "--seed=1", "--seed 1", "--no-quiet", "--quiet=1",
    "-h", "--help", "--version", "--config", "--config=", "--config=nope.yaml", "--config=.", "--output", "--output=", "nope",
    "train", "tasks", "arithmetic", "ARITHMETIC", "arithmatic", "os:system", "os.path:join", ":", "x:", ":x", "a.py:B", "./a.py:B",
    "--method", "--method=mle:", "--method=mle:=", "--method=mle:a=1", "--method=:mle", "--method=mle:label_smoothing",
    "--method=mle:label_smoothing=2", "--method=mle:label_smoothing=nan", "--method=mle,ocd", "--method=searnn:cells=0", "--method=",
    "--model", "--model=causal", "--model=nope/nope", "--model=/nope", "--model=.", "--model=", "--model=a/b/c", "--model.layers",
    "--model.layers=", "--model.layers=0", "--model.layers=1e1", "--model.layers=true", "--model.layers=[1]", "--model.layers=" + HUGE,
    "--model.hidden_size=999999999999", "--model.hidden_size=2147483648", "--model.hidden-size=3", "--model.hiden_size=3",
    "--model.dropout=1", "--model.dropout=nan", "--model.dropout=.5", "--training.learning_rate=inf", "--training.learning_rate=1e-400",
    "--training.learning_rate=1e30", "--training.clip=nan", "--training.momentum=0.5", "--training.budget=0", "--training.warmup=1e308",
    "--training.batch_size=0", "--training.seed=1", "--seed=4294967296", "--seed=-1", "--seed=1.0", "--seed=１", "--init", "--init=nope",
    "--init=.", "--data=nope", "--data=.", "--data=", "--data=/dev/null", "--task.digits=10", "--task.seed=x", "--metrics", "--metrics=bleu",
    "--metrics=nope", "--metrics=os:getcwd", "--metrics=bleu:tokenize=nope", "\u202e", "é", "\udcff", "\U0001f600", "\n", "a\nb", "x" * 5000,
    "--training.precision=fp16", "--training.report_to=tensorboard", "--training.gradient_checkpointing=true", "--budget=nan", "--task.test=nope",
]
BEGINNINGS: list[Words] = [
    ["train", "arithmetic"], ["train", "arithmetic"], ["train", "digits"], ["train", "spelling"], ["train", "pairs"], ["train", "tagging"],
    ["train", "--task", "arithmetic"], ["compare", "arithmetic", "--seeds", "1", "--methods", "mle"], ["tasks"], ["methods"], ["metrics"],
    ["costs", "arithmetic"], ["costs"], ["evaluate", "RUN"], ["predict", "RUN", "IN"], ["predict", "RUN", "IN", "--beam", "2"], [], ["evaluate"],
]
# fmt: on


def _spell(value: Any, random: Random) -> str:
    """Return YAML for a value, in one of its ways."""
    if random.random() < 0.7:
        return json.dumps(value)
    if value is None:
        return random.choice(["null", "~", "Null", ""])
    if isinstance(value, bool):
        pair = random.choice([("true", "false"), ("yes", "no"), ("on", "off"), ("TRUE", "FALSE")])
        return pair[0] if value else pair[1]
    if isinstance(value, int):
        return random.choice([str(value), hex(value), f"'{value}'", f"+{value}", f"{value}.0"])
    if isinstance(value, float):
        return random.choice(
            [repr(value), f"{value:e}", f"{value:.1e}", f"'{value}'", f"{value:f}"]
        )
    if isinstance(value, str) and re.fullmatch(r"[\w:=.]+", value):
        return random.choice([value, f"'{value}'", f'"{value}"', f"!!str {value}"])
    return json.dumps(value)


def make_configuration(place: Place) -> Case:
    """Make a YAML file with right, wrong and hostile settings."""
    random = place.random
    chosen = {name: random.choice(VALUES[name]) for name in random.sample(list(VALUES), k=3)}
    what = random.choice(["right", "right", "wrong", "wrong", "hostile", "hostile", "bytes"])
    if what == "wrong":
        name = random.choice(list(chosen))
        chosen[name] = random.choice(WRONG)
        what = f"{name} is {chosen[name]!r}"
    groups: dict[str, list[str]] = {}
    for name, value in chosen.items():
        group, _, inner = name.rpartition(".")
        groups.setdefault(group, []).append(f"{inner or name}: {_spell(value, random)}")
    flow = random.random() < 0.5
    text = "\n".join(groups.pop("", [])) + "\n"
    for group, lines in groups.items():
        if flow and not any(line.endswith(": ") for line in lines):
            text += f"{group}: {{{', '.join(lines)}}}\n"
        else:
            text += "".join(f"{line}\n" for line in [f"{group}:", *(f"  {line}" for line in lines)])
    raw = text.encode()
    if what == "hostile":
        own = random.choice(HOSTILE)
        what, text = f"hostile: {own[:40]!r}", random.choice([own, own + text, text + own])
        raw = text.encode(random.choice(["utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig"]))
    elif what == "bytes":
        what, raw = damage_bytes(raw, random)
    Path("run.yaml").write_bytes(raw)
    words = ["train", "arithmetic", "--config", "run.yaml", *SAFE]

    def wanted() -> dict[str, Any]:
        # All values as text: what they mean is for the check to say.
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
        found = yaml.load(text, yaml.BaseLoader)
        flat = {}
        for key, value in found.items():
            inner = value.items() if isinstance(value, dict) else ()
            flat |= {f"{key}.{name}": item for name, item in inner} or {key: value}
        return {name: value for name, value in flat.items() if name not in FLAGGED}

    return Case(what, [words], _check_record(wanted))


def make_words(place: Place) -> Case:
    """Make a command line with words that are wrong, lost, doubled or exchanged."""
    random = place.random
    words = list(random.choice(BEGINNINGS))
    known = {"RUN": str(place.bases / "recurrent"), "IN": str(place.bases / "in.txt")}
    words = [known.get(word, word) for word in words]
    experiment = words[:1] in (["train"], ["compare"])
    if experiment and random.random() < 0.7:
        for name in random.sample(list(VALUES), k=2):
            value = random.choice(VALUES[name] + WRONG * (random.random() < 0.3))
            flag = name.replace("_", "-") if random.random() < 0.2 else name
            words += [f"--{flag}={value}"] if random.random() < 0.5 else [f"--{flag}", str(value)]
    for _ in range(random.choice([0, 1, 1, 1, 2])):
        at = random.randrange(len(words) + 1)
        how = random.choice(["put", "put", "put", "lose", "double", "exchange", "change"])
        if how == "put" or not words[at : at + 1]:
            words.insert(at, random.choice(WORDS))
        elif how == "lose":
            del words[at]
        elif how == "double":
            words.insert(at, words[at])
        elif how == "exchange":
            other = random.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif words[at] and not words[at].startswith("/"):
            place_ = random.randrange(len(words[at]))
            letter = random.choice("-=.:_aZ0 é")
            words[at] = words[at][:place_] + letter + words[at][place_ + 1 :]
    if words[:1] in (["train"], ["compare"]):
        words += SAFE
        Path("run.yaml").write_text("seed: 3\n")

    def wanted() -> dict[str, Any]:
        found = {}
        for index, word in enumerate(words):
            name, equals, value = word.removeprefix("--").replace("-", "_").partition("=")
            value = word.partition("=")[2]
            if word.startswith("--") and name in VALUES and name not in FLAGGED:
                found[name] = value if equals else words[index + 1]
        return found

    check = _check_record(wanted) if words[:1] == ["train"] else lambda outcomes: None
    return Case("words", [words], check)


def _check_record(wanted: Callable[[], dict[str, Any]]) -> Callable[[list[Outcome]], str | None]:
    """Return a check that the record of the run has the settings that were asked for."""

    def check(outcomes: list[Outcome]) -> str | None:
        if Path("executed").exists():
            return "code was executed"
        if not Path("run", "freerun.json").exists():
            return None  # only help was asked for
        record = json.loads(Path("run", "freerun.json").read_text())
        for name, value in wanted().items():
            group, _, inner = name.rpartition(".")
            if group == "task":
                found = record["task"]["settings"].get(inner)
            elif group in ("model", "training"):
                found = record[group].get(inner, record)
            elif name == "seed":
                (found,) = record["seeds"]
            else:
                continue
            if name == "training.learning_rate" and _same(value, None):
                continue  # the default of the model is recorded
            if not _same(value, found):
                return f"{name} is {found!r} for {value!r:.40}"
        return None

    return check


def _same(text: Any, found: Any) -> bool:
    """Return whether the text of a value, as it stands in a file or on a command line, says it."""
    if isinstance(text, list) or isinstance(found, (list, dict)):
        return False
    plain = str(text).strip()
    if isinstance(found, bool):
        return plain.lower() in (("true", "yes", "on") if found else ("false", "no", "off"))
    if found is None:
        return plain.lower() in ("null", "~", "")
    if isinstance(found, str):
        return plain == found
    read: list[Callable[[], float]] = [
        lambda: int(plain),
        lambda: int(plain, 0),
        lambda: float(plain),
    ]
    for number in read:
        with contextlib.suppress(ValueError, OverflowError):
            if number() == found:
                return True
    return False


KINDS: dict[str, tuple[Maker, int]] = {
    "configuration": (make_configuration, 26),
    "command line": (make_words, 22),
}
"""What makes each kind of case, and how many of it there are among all."""
