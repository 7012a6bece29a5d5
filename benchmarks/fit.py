"""Which batches fit into the memory of a GPU, by formulas that are checked on the CPU.

Run `python benchmarks/fit.py --json fit.json`. For every size of model it writes what training
takes in any case, and what every row of 512 tokens adds to an update of MLE, both in bytes:

- fixed: weights in single precision, their gradient, and both averages of Adam: 16 bytes for each
  trained parameter, and 4 for a frozen one. LoRA trains matrices of rank 16 beside every linear
  layer.
- row: what the layers keep for the backward pass under bf16 autocast, by running them on tensors
  without values. Attention has no dropout, so its probabilities are not kept.

At its peak, an update takes weights and averages, and the larger of its gradients and of what is
kept for the rows when the scores are computed, with `CHUNK` bytes for these. `error_SIZE` is the
relative error of this against the measured peak of an update on the CPU. Of other methods, what is
kept for a row is that of MLE times the ratio that benchmarks/growth.py measured.

`full/METHOD/SIZE, GB` is the number of rows that fit into a GPU of so many GB, a tenth of which is
left to the system; `lora/…` with LoRA. For a causal model of your own: `--model DIR --length 512`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from counting import Toy
from growth import GROWING, measure_peak
from peft import LoraConfig, PeftModel, get_peft_model
from timing import parse, parser, write
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from freerun.chunks import MAX_SCORES
from freerun.methods import MLE, Clock
from freerun.models.huggingface import adapt

LENGTH = 512
CHUNK = 3 * 4 * MAX_SCORES
"""Scores, their logarithms and a gradient, in single precision."""
HEAD = {False: 4, True: 8}
"""Bytes for each weight of the output layer: its gradient; under autocast also two copies of the
weight in half precision, that of autocast and that of all chunks."""
GPUS = (16, 24, 40, 80)
GROWTH = Path(__file__).resolve().parents[1] / "docs" / "results" / "speed" / "growth.json"
TEACHERS = ("gkd",)
"""Methods with a second model, in single precision and without gradient."""


def gpt2(layers: int, width: int, heads: int, words: int = 50_257) -> GPT2LMHeadModel:
    """Return a GPT-2."""
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    sizes = {"n_layer": layers, "n_embd": width, "n_head": heads, "vocab_size": words}
    return GPT2LMHeadModel(GPT2Config(**sizes, **special, attn_pdrop=0.0))


def llama() -> LlamaForCausalLM:
    """Return a model with the sizes of Llama 3.2 1B."""
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, intermediate_size=8192, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


SIZES: dict[str, Callable[[], PreTrainedModel]] = {
    "125M": lambda: gpt2(12, 768, 12),
    "350M": lambda: gpt2(24, 1024, 16),
    "1B": llama,
}
CHECKED: dict[str, tuple[Callable[[], PreTrainedModel], int, bool]] = {
    "7M": (lambda: gpt2(4, 256, 4, 16_000), 4, False),
    "30M": (lambda: gpt2(6, 384, 6), 4, False),
    "30M_lora": (lambda: gpt2(6, 384, 6), 4, True),
}
"""Models that are small enough for the CPU, the rows of a batch, and whether LoRA is used."""


@dataclass(frozen=True)
class Needs:
    """What training takes, in bytes.

    Attributes:
        model: weights in single precision.
        averages: those of Adam.
        gradients: the gradient.
        head: the gradient of the output layer, which is computed first.
        row: what is kept for the backward pass of a row.
        once: what is kept once for all rows, such as weights in half precision.
    """

    model: float
    averages: float
    gradients: float
    head: float
    row: float
    once: float

    def kept(self, rows: float) -> float:
        """Return what an update takes, above weights and averages, when scores are computed."""
        return self.once + rows * self.row + self.head + CHUNK

    def update(self, rows: float) -> float:
        """Return the peak of an update above weights and averages."""
        return max(self.gradients, self.kept(rows))

    def count_rows(self, memory: float) -> int:
        """Return the number of rows that fit into a memory; 0 if none does."""
        left = memory - self.model - self.averages
        return int(max(0, left - self.kept(0)) / self.row) if left > self.gradients else 0


def add_lora(model: PreTrainedModel) -> PeftModel:
    """Add matrices of rank 16 beside every linear layer."""
    return get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))


def pretend(model: nn.Module) -> None:
    """Move a model from the meta device, which has no autocast, to tensors without values."""
    made: dict[int, torch.Tensor] = {}  # tied weights stay tied
    for module in model.modules():
        for place in (module._parameters, module._buffers):
            for name, old in place.items():
                if old is not None and id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    trained = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(new, old.requires_grad) if trained else new
                if old is not None:
                    place[name] = made[id(old)]


def count_kept(model: PreTrainedModel, rows: int, length: int, *, half: bool) -> int:
    """Return the bytes that layers keep for the backward pass, besides weights."""
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}  # kept, so that no number is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage
        return tensor

    tokens = torch.zeros(rows, length, dtype=torch.long)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=half):
        model.base_model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    return sum(storage.nbytes() for storage in seen.values())


def find_needs(
    make: Callable[[], PreTrainedModel], length: int, *, lora: bool = False, half: bool = True
) -> Needs:
    """Compute what training takes, on tensors without values."""
    with torch.device("meta"):
        model = make().train()
        head = model.get_output_embeddings().weight
        model = add_lora(model) if lora else model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(model)
        one, two = (count_kept(model, rows, length, half=half) for rows in (1, 2))
    return Needs(
        model=4 * every,
        averages=8 * trained,
        gradients=4 * trained,
        head=HEAD[half] * head.numel() if head.requires_grad else 2 * half * head.numel(),
        row=two - one,
        once=2 * one - two,
    )


def read_ratios(path: Path) -> dict[str, float]:
    """Return the memory of an update of each method relative to MLE, with the longest targets."""
    figures = json.loads(path.read_text())
    names = [key.split("/")[1] for key in figures if key.endswith("/mb_vs_mle")]
    longest = {
        name: figures[f"causal/{name}/length={GROWING['length'][-1]}/mb"]
        for name in dict.fromkeys(names)
    }
    return {name: value / longest["mle"] for name, value in longest.items()}


def measure_update(model: nn.Module, rows: int, length: int, *, half: bool) -> float:
    """Measure the peak of an update of MLE above weights and averages, in bytes."""
    toy = Toy(model.config.vocab_size, length - 1, length - 1, prompt=1, rows=rows)
    policy = adapt(model, toy.vocabulary, limit=length).train()
    batch = toy.batch(torch.device("cpu"))
    optimizer = torch.optim.Adam(policy.parameters(), 0.0)

    def update() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outcome = MLE().loss(policy, batch, Clock())
        (outcome.total / outcome.count).backward()
        optimizer.step()
        optimizer.zero_grad()

    update()
    return measure_peak(update) * 1e6


def count_fitting(
    name: str, make: Callable[[], PreTrainedModel], length: int, ratios: Mapping[str, float]
) -> dict[str, float]:
    """Return the needs of a model, and the rows that fit, by method and GPU."""
    figures: dict[str, float] = {}
    for kind in ("full", "lora"):
        needs = find_needs(make, length, lora=kind == "lora")
        figures |= {f"{kind}/{key}/{name}": value for key, value in vars(needs).items()}
        for method, ratio in ratios.items():
            models = 2 if method in TEACHERS else 1
            own = replace(needs, row=ratio * needs.row, model=models * needs.model)
            for size in GPUS:
                figures[f"{kind}/{method}/{name}, {size} GB"] = own.count_rows(0.9e9 * size)
    return figures


def check(name: str) -> dict[str, float]:
    """Return the measured peak of an update of a small model, and the error of the formulas."""
    make, rows, lora = CHECKED[name]
    figures: dict[str, float] = {}
    for half in (False, True):
        torch.manual_seed(0)
        expected = find_needs(make, LENGTH, half=half, lora=lora).update(rows)
        model = add_lora(make()) if lora else make()
        found = measure_update(model, rows, LENGTH, half=half)
        key = f"{name}_{'bf16' if half else 'fp32'}"
        figures[f"measured_{key}"] = round(found)
        figures[f"error_{key}"] = round(expected / found - 1, 3)
    return figures


def main() -> None:
    """Compute and check, and print and write the figures."""
    options = parser(__doc__.splitlines()[0], rounds=1)
    options.set_defaults(threads=1)
    options.add_argument("--model", metavar="DIR", help="only this causal model, of transformers")
    options.add_argument("--length", type=int, default=LENGTH, help=f"tokens (default {LENGTH})")
    given = parse(options)
    sizes, checked = SIZES, list(CHECKED)
    if given.model:
        config = AutoConfig.from_pretrained(given.model)
        sizes = {Path(given.model).name: lambda: AutoModelForCausalLM.from_config(config)}
        checked = []
    some = 1 if given.quick else None
    figures: dict[str, float | str] = {"length": given.length}
    for name, make in list(sizes.items())[:some]:
        figures |= count_fitting(name, make, given.length, read_ratios(GROWTH))
    for name in checked[:some]:
        figures |= check(name)
    write(figures, given.json)


if __name__ == "__main__":
    main()
