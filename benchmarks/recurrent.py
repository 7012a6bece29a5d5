"""Time training and decoding of recurrent models relative to plain PyTorch and to MLE.

Run `python benchmarks/recurrent.py --json recurrent.json`. All figures are ratios of times
measured side by side in this run, at the sizes of the tasks ocr and spelling; the plain key is the
worse of the two. Scheduled sampling is timed with own tokens only, its most expensive setting.
Decoding by captured steps is timed on a GPU.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from plain_pytorch import Bare
from timing import devices, parse, parser, ratio, side_by_side, write
from transformers import TrainingArguments

from freerun.batch import Batch
from freerun.data import Codec, FeatureCodec, TextCodec
from freerun.data.prose import SYMBOLS
from freerun.data.store import Ragged, StoredExamples
from freerun.decoding import greedy
from freerun.methods import MLE, Clock, DifferentiableScheduledSampling, Method, ScheduledSampling
from freerun.models import RecurrentPolicy
from freerun.models.settings import RecurrentSettings
from freerun.tasks import Ocr, Spelling, Task
from freerun.training import Trainer

ALL_OWN = {"schedule": "constant", "k": 0.0}
METHODS: dict[str, Method] = {
    "mle": MLE(),
    "ss": ScheduledSampling(**ALL_OWN),
    "soft_argmax": DifferentiableScheduledSampling(straight_through=False, **ALL_OWN),
    "soft_sample": DifferentiableScheduledSampling(
        relaxation="soft_sample", straight_through=False, **ALL_OWN
    ),
}


@dataclass(frozen=True)
class Size:
    """The shapes of a task, with random data."""

    name: str
    codec: Codec
    model: RecurrentSettings
    examples: StoredExamples
    batch_size: int


def plain(task: type[Task]) -> RecurrentSettings:
    """Return the model of a task's recipe without dropout, which the plain loops do not have."""
    return replace(RecurrentSettings(**task.recipe["model"]), dropout=0.0)


def ocr(count: int = 4096) -> Size:
    """Return the size of OCR: words of 3 to 14 letters of 128 pixels."""
    lengths = torch.randint(3, 15, (count,))
    total = int(lengths.sum())
    images = (torch.rand(total + 1, 128) < 0.2).float()
    letters = torch.randint(0, 26, (total + 1,))
    examples = StoredExamples(
        Ragged.from_values(images, lengths.tolist()),
        Ragged.from_values(letters, lengths.tolist()),
        eos=False,
    )
    row = {"features": images[:1].numpy(), "target": "a"}
    codec = FeatureCodec.learn([row], [], target_tokens=Ocr.target_tokens, fixed_length=True)
    return Size("ocr", codec, plain(Ocr), examples, 64)


def spelling(count: int = 8192) -> Size:
    """Return the size of spelling: windows of 10 characters with noise."""
    letters = torch.randint(0, len(SYMBOLS), (count, 10))
    texts = ["".join(SYMBOLS[i] for i in row) for row in letters.tolist()]
    rows = [{"source": text, "target": text} for text in texts]
    tokens = Spelling().target_tokens
    codec = TextCodec.learn(rows, [], target_tokens=tokens, source_tokens=tokens)
    codec = replace(codec, limit=16)
    examples = codec.encode(rows)
    examples = replace(examples, augmentation=Spelling().augment(codec, "train", examples))
    return Size("spelling", codec, plain(Spelling), examples, 128)


def batches(size: Size, steps: int, device: torch.device) -> list[Batch]:
    """Return the batches for a plain loop, made in advance."""
    found = []
    for step in range(steps):
        numbers = [
            (step * size.batch_size + i) % len(size.examples) for i in range(size.batch_size)
        ]
        tensors = size.examples.batch(numbers).tensors()
        found.append(
            Batch.from_tensors({name: value.to(device) for name, value in tensors.items()})
        )
    return found


def bare_training(size: Size, steps: int, device: torch.device) -> Callable[[], None]:
    """Run `steps` updates in a plain loop."""
    model = Bare(size.model.build(size.codec)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    ready = batches(size, steps, device)

    def run() -> None:
        for batch in ready:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()

    return run


def training(size: Size, method: Method, steps: int, device: torch.device) -> Callable[[], None]:
    """Run the same number of updates with the Trainer, without logging and evaluation."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                output_dir=folder,
                use_cpu=device.type == "cpu",
                max_steps=steps,
                per_device_train_batch_size=size.batch_size,
                max_grad_norm=0.0,
                learning_rate=1e-3,
                logging_strategy="no",
                eval_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            Trainer(
                model=size.model.build(size.codec),
                method=method,
                args=args,
                processing_class=size.codec,
                train_dataset=size.examples,
                optimizer_cls_and_kwargs=(torch.optim.Adam, {"lr": 1e-3}),
            ).train()

    return run


def decoding(
    size: Size, device: torch.device, repeats: int, updates: int, *, captures: bool
) -> dict[str, Callable[[], None]]:
    """Return our greedy decoding, and a plain loop over the same batches.

    The policy is trained briefly first, so that its outputs end where targets do.

    Args:
        size: the shapes.
        device: the device.
        repeats: the number of batches.
        updates: the number of updates before.
        captures: whether to decode by captured steps, too.
    """
    policy = size.model.build(size.codec).to(device)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for batch in batches(size, updates, device):
        optimizer.zero_grad()
        outcome = MLE().loss(policy, batch, Clock())
        (outcome.total / outcome.count).backward()
        optimizer.step()
    bare = Bare(policy).to(device)
    ready = batches(size, repeats, device)
    # Without an eos a plain loop runs to the longest row; with one, it cannot know when to stop.
    steps = [int(policy.limit(batch.source).max()) for batch in ready]

    def ours(policy: RecurrentPolicy) -> None:
        for batch in ready:
            greedy(policy, batch.source)

    def plain() -> None:
        for batch, count in zip(ready, steps, strict=True):
            bare.greedy(batch, count)

    runs = {"greedy": partial(ours, policy), "plain": plain}
    if captures:
        captured = copy.deepcopy(policy)
        captured.capture_steps()
        runs["captured"] = partial(ours, captured)
    return runs


def measure(
    size: Size, steps: int, rounds: int, device: torch.device, *, captures: bool
) -> dict[str, float]:
    """Return the ratios at one size."""
    runs = {name: training(size, method, steps, device) for name, method in METHODS.items()}
    runs["bare"] = bare_training(size, steps, device)
    runs |= decoding(size, device, repeats=steps // 4, updates=steps, captures=captures)
    times = side_by_side(runs, rounds=rounds, device=device)
    figures = {
        "mle_vs_bare": ratio(times, "mle", "bare"),
        "ss_vs_mle": ratio(times, "ss", "mle"),
        "dss_vs_mle": max(ratio(times, "soft_argmax", "mle"), ratio(times, "soft_sample", "mle")),
        "greedy_vs_plain": ratio(times, "greedy", "plain"),
    }
    if captures:
        figures["captured_vs_greedy"] = ratio(times, "captured", "greedy")
        figures["captured_vs_plain"] = ratio(times, "captured", "plain")
    return figures


def main() -> None:
    """Measure, and print and write the figures."""
    accepted = parser(__doc__.splitlines()[0], rounds=5, device=True)
    accepted.add_argument("--steps", type=int, default=200, help="updates per round (default 200)")
    options = parse(accepted)
    steps = 20 if options.quick else options.steps
    torch.manual_seed(0)
    figures: dict[str, float | str] = {}
    for device, suffix in devices(options):
        for size in (ocr(), spelling()):
            # On a CPU nothing is captured; there it is only tried that it runs.
            captures = options.quick or device.type == "cuda"
            found = measure(size, steps, options.rounds, device, captures=captures)
            for key, value in found.items():
                figures[f"{key}_{size.name}{suffix}"] = value
                worst = f"{key}{suffix}"
                figures[worst] = max(float(figures.get(worst, 0.0)), value)
    write(figures, options.json)


if __name__ == "__main__":
    main()
