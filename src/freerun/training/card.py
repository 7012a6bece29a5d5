"""The card of a trained model: a README that describes it, with its free-running metrics."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCardData

from freerun.data import Codec, TextCodec
from freerun.evaluation import GREEDY, Decoding
from freerun.files import write
from freerun.methods import Method
from freerun.models import CausalPolicy, Seq2SeqPolicy
from freerun.models.huggingface import HuggingFacePolicy
from freerun.policy import Policy
from freerun.settings import to_dict
from freerun.tasks.base import Task
from freerun.training.checkpoints import has_adapters

CARD = "README.md"
_TRAINING = {
    "learning_rate": "learning rate",
    "lr_scheduler_type": "schedule of the learning rate",
    "per_device_train_batch_size": "examples of a batch, each process",
    "gradient_accumulation_steps": "batches of an update",
    "seed": "seed",
}
"""The settings of training that a card shows, and their labels."""
_LOAD = """```python
import freerun

model = freerun.load("PATH")
for output in model.predict(["…"]):
    print(output.text, output.log_prob)
```
"""
_USE = {
    "freerun": "",
    "transformers": """
Plain transformers loads it too: `AutoModelForCausalLM`, or `AutoModelForSeq2SeqLM` where it has an
encoder, and `AutoTokenizer` where its texts were read by one. `generation_config.json` describes
greedy decoding, with eos and maximum length as above, so `generate` and `pipeline` write the same.
""",
    "peft": """
These are adapters; the model that they belong to is named in `adapter_config.json`. Plain peft
loads them too: `AutoPeftModelForCausalLM`, or `AutoPeftModelForSeq2SeqLM`. The generation config of
that model may say otherwise. To decode as above, replace it before `generate` or `pipeline`:
`model.generation_config = GenerationConfig.from_pretrained("PATH")`.
""",
}


@dataclass(frozen=True)
class Card:
    """The contents of a model card.

    Args:
        name: the name of the model.
        policy: the model.
        codec: what it reads and writes.
        method: the method that trained it.
        task: the task that it was evaluated on.
        decoding: how its outputs were decoded.
        training: settings of training, by name.
        updates: the update whose weights these are.
        metrics: the metrics on the evaluation data; empty if it was not evaluated.
        asked: the number of updates that was asked for; None if a budget of seconds was.
        examples: the number of training examples.
    """

    name: str
    policy: Policy
    codec: Codec
    method: Method
    task: Task
    decoding: Decoding
    training: Mapping[str, Any]
    updates: int
    metrics: Mapping[str, float]
    asked: int | None = None
    examples: int | None = None

    def write(self, folder: Path) -> None:
        """Write README.md into a folder atomically."""
        write(folder / CARD, self.text())

    def text(self) -> str:
        """Return the card as Markdown, with the front matter that the Hugging Face hub reads."""
        method, words = self.method, _words(self.method.name)
        parts = [
            f"---\n{self._front_matter()}\n---\n",
            f"# {self.name}\n",
            f"Trained with freerun by {words} ({method.summary}).\n",
            f"The method: {method.paper}.\n" if method.paper else "",
            self._results(),
            "## Settings\n\n" + _table("setting", "value", self._settings()),
            "## Use\n\n" + _LOAD + _USE[self._library],
            self._prompts(),
            self._decoding(),
        ]
        return "\n".join(part for part in parts if part)

    @property
    def _library(self) -> str:
        """Return the library that loads the model."""
        if has_adapters(self.policy):
            return "peft"
        return "transformers" if isinstance(self.policy, HuggingFacePolicy) else "freerun"

    def _front_matter(self) -> str:
        base = self._base
        kinds: dict[type, str] = {
            CausalPolicy: "text-generation",
            Seq2SeqPolicy: "text2text-generation",
        }
        results = [
            EvalResult(
                task_type=kinds.get(type(self.policy), "other"),
                dataset_type=self.task.name,
                dataset_name=self.task.name,
                metric_type=metric,
                metric_value=float(f"{value:.6g}"),
            )
            for metric, value in self.metrics.items()
        ]
        data = ModelCardData(
            library_name=self._library,
            # A method, task or metric of a user has a path, and no page.
            base_model=base if base and not Path(base).exists() else None,
            pipeline_tag=kinds.get(type(self.policy)),
            tags=["freerun", self.method.name],
            model_name=self.name if results else None,
            eval_results=results or None,
        )
        return str(data.to_yaml(line_break="\n")).strip()

    @property
    def _base(self) -> str:
        """The name or path of the model that training started from; empty if there is none."""
        if not isinstance(self.policy, HuggingFacePolicy):
            return ""
        return str(self.policy.inner.name_or_path or "")

    def _origins(self) -> dict[str, str]:
        """Return the base model, the adapters and the data."""
        # The name of a folder, not its path on this machine.
        base = Path(self._base).name if Path(self._base).exists() else self._base
        found = {"base model": base} if base else {}
        if has_adapters(self.policy):
            adapter, *_ = cast(Any, self.policy).model.peft_config.values()
            found["adapters"] = f"{adapter.peft_type.value}, rank {getattr(adapter, 'r', '?')}"
        data = to_dict(self.task)
        names = ("data", "targets", "train", "train_source", "subset")
        found |= {n.replace("_", " "): _name(data[n]) for n in names if data.get(n) is not None}
        if self.examples is not None:
            found["training examples"] = f"{self.examples:,}"
        return found

    def _results(self) -> str:
        if not self.metrics:
            return ""
        beam = self.decoding.beam
        how = f"by a beam search of size {beam}" if beam > 1 else f"by {self.decoding.how}"
        how = "greedily" if self.decoding == GREEDY else how
        figures = {_words(name): f"{value:.4g}" for name, value in self.metrics.items()}
        return (
            f"## Results\n\nOf outputs that the model wrote by itself, {how}, for the evaluation "
            f"data ({_words(self.task.name)}). The teacher-forced loss alone is of references, in "
            "nats a token.\n\n" + _table("metric", "value", figures)
        )

    def _prompts(self) -> str:
        """Return how to encode prompts in transformers, unless its tokenizer does so by itself."""
        note = self.codec.prompt_note if isinstance(self.codec, TextCodec) else None
        return f"{note}\n" if note and self._library != "freerun" else ""

    def _decoding(self) -> str:
        """Return how to decode in transformers as for the results, unless decoding is greedy."""
        how = self.decoding
        if self._library == "freerun" or how == GREEDY:
            return ""
        settings: dict[str, Any] = {}
        if how.beam > 1:
            settings = {"num_beams": how.beam, "length_penalty": how.length_penalty}
            settings["early_stopping"] = True
        elif how.sample:
            settings = {"do_sample": True, **how.truncation}
        if how.noise or not settings:
            return f"The results above are by {how.how}, which `generate` does not have.\n"
        words = ", ".join(f"{name}={value}" for name, value in settings.items())
        return f"The results above are by {how.how}: for `generate`, set `{words}`.\n"

    def _settings(self) -> dict[str, str]:
        values = to_dict(self.method).items()
        method = {_words(name): str(value) for name, value in values if value is not None}
        training = {words: str(self.training[name]) for name, words in _TRAINING.items()}
        version = importlib.metadata.version("freerun")
        return {
            "method": _words(self.method.name),
            **method,
            **({} if self.asked is None else {"updates asked for": str(self.asked)}),
            "updates": str(self.updates),
            **training,
            **self._origins(),
            "version of freerun": version,
        }


def _name(data: object) -> str:
    """Return the name of a file or folder, without its path on this machine."""
    return Path(str(data)).name if Path(str(data)).exists() else str(data)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _table(left: str, right: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(lines) + "\n"
