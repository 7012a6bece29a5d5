"""Time an update of SEARNN relative to maximum likelihood and to the necessary computation.

Run `python benchmarks/searnn.py --json searnn.json`. Ratios are of times measured side by side in
this run. Translation, in the shape of Leblond et al. 2018, is timed first, so that the peak memory
of the process is that of Python and PyTorch, the model, its optimizer, one batch and its search.
"""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from recurrent import batches, ocr
from roll_outs import Shape, floor, idle, product, updates, watched
from timing import devices, parse, parser, ratio, seconds, side_by_side, write

from freerun.costs import bleu, levenshtein
from freerun.methods import MLE, SEARNN
from freerun.models.recurrent.projection import has_bfloat16

QUICK = Shape(batch=8, length=12, source_words=2_000, words=4_000, cells=5, tokens=12)
ROWS = 1024
"""The number of decoder steps whose output projection is timed."""


def translation(device: torch.device, rounds: int, shape: Shape) -> dict[str, float]:
    """Time an update in the shape of translation, with both precisions of roll-outs."""
    batch = shape.sentences(device)
    policy = shape.policy().to(device)
    model = policy, idle(policy)
    # On other processors, rows in bfloat16 take more than 15 minutes.
    precisions = {"training": ""} | ({"bfloat16": "_bf16"} if has_bfloat16(device) else {})
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    alone = {
        name: product(ROWS, shape.hidden, shape.words, device, dtypes[name])
        for name in list(dtypes)[: len(precisions)]
    }
    # What must be warm is so after few sentences.
    few = [replace(shape, batch=4).sentences(device)]
    taught = updates(*model, [batch], MLE())
    found: dict[str, list[float]] = {}
    for precision in precisions:
        updates(*model, few, shape.method(precision))()
    taught()
    for _ in range(rounds):
        note(found, "nmt_mle_seconds", seconds(taught, device))
        for precision, suffix in precisions.items():
            run = updates(*model, [batch], shape.method(precision))
            plain = "bfloat16" if suffix else "float32"
            with watched(device) as seen:
                before = {name: timed(run, device) for name, run in alone.items()}
                took = seconds(run, device)
                after = {name: timed(run, device) for name, run in alone.items()}
            steps, rolled = sum(seen.rows), sum(seen.seconds)
            each = {name: (before[name] + after[name]) / 2 for name in alone}
            needed = steps / ROWS * each["float32"]
            note(found, f"nmt_step{suffix}_seconds", took)
            note(found, f"nmt_step{suffix}_vs_projection", took / needed)
            rate = 2 * ROWS * shape.hidden * shape.words / each[plain]
            source = float(batch.source.lengths.float().mean())
            done = steps * shape.operations(source) / rolled
            note(found, f"rollout_efficiency{suffix}", done / rate)
            note(found, "nmt_decoder_steps", steps)
            note(found, f"projection_{plain}_seconds", each[plain])
    figures = {name: statistics.median(values) for name, values in found.items()}
    figures["nmt_peak_gb"] = peak(device)
    return figures


def note(found: dict[str, list[float]], name: str, value: float) -> None:
    """Record the figure of one round."""
    found.setdefault(name, []).append(value)


def timed(run: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Return the median seconds of a few calls."""
    return statistics.median(seconds(run, device) for _ in range(times))


def peak(device: torch.device) -> float:
    """Return the peak memory so far in GB: of the process on a CPU, of tensors on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def letters(device: torch.device, rounds: int, steps: int = 10) -> dict[str, float]:
    """Time an update at the size of the OCR task, with all cells and all tokens."""
    size = ocr()
    policy = size.model.build(size.codec).to(device)
    model = policy, idle(policy)
    ready = batches(size, steps, device)
    method = SEARNN(cost="hamming")
    runs = {"mle": updates(*model, ready, MLE()), "searnn": updates(*model, ready, method)}
    with watched(device) as seen:
        runs["searnn"]()
    runs["floor"] = floor(policy, seen.rows, folded=False)
    runs["least"] = floor(policy, seen.rows, folded=True)
    times = side_by_side(runs, rounds=rounds, device=device)
    return {
        "ocr_mle_seconds": statistics.median(times["mle"]) / steps,
        "ocr_step_seconds": statistics.median(times["searnn"]) / steps,
        "ocr_decoder_steps": sum(seen.rows) / steps,
        "ocr_floor_vs_mle": ratio(times, "floor", "mle"),
        "ocr_step_vs_mle": ratio(times, "searnn", "mle"),
        "ocr_step_vs_floor": ratio(times, "searnn", "floor"),
        "ocr_step_vs_folded_floor": ratio(times, "searnn", "least"),
    }


def costs(device: torch.device, count: int = 30_000, length: int = 25) -> dict[str, float]:
    """Return the pairs per second of our costs, and of the libraries they are tested against."""
    targets = torch.randint(100, (count, length))
    outputs = targets.where(torch.rand(count, length) < 0.6, torch.randint(100, (count, length)))
    lengths = torch.randint(length - 5, length + 1, (count,)), torch.full((count,), length)
    pair = [tensor.to(device) for tensor in (outputs, lengths[0], targets, lengths[1])]
    ours = {"bleu": lambda: bleu(*pair), "edit": lambda: levenshtein(*pair)}
    for run in ours.values():
        run()
    found = {f"{name}_pairs_per_s": count / timed(run, device) for name, run in ours.items()}
    return found if device.type == "cuda" else found | libraries(*pair)


def libraries(
    outputs: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, _: torch.Tensor
) -> dict[str, float]:
    """Return the pairs per second of sacrebleu and rapidfuzz, for the same pairs as text."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist
    from sacrebleu.metrics import BLEU

    rows = zip(outputs.tolist(), lengths.tolist(), targets.tolist(), strict=True)
    tokens = [(output[:length], target) for output, length, target in rows]
    texts = [[" ".join(map(str, side)) for side in pair] for pair in tokens[:2000]]
    characters = [["".join(chr(0x4E00 + i) for i in side) for side in pair] for pair in tokens]
    scorer, sides = BLEU(effective_order=True, tokenize="none"), list(zip(*characters, strict=True))
    cpu = torch.device("cpu")
    runs = {
        "sacrebleu": (len(texts), lambda: [scorer.sentence_score(a, [b]) for a, b in texts]),
        "rapidfuzz": (
            len(characters),
            lambda: cpdist(*sides, scorer=Levenshtein.distance, workers=torch.get_num_threads()),
        ),
    }
    return {f"{name}_pairs_per_s": n / timed(run, cpu, 3) for name, (n, run) in runs.items()}


def main() -> None:
    """Measure, and print and write the figures."""
    options = parse(parser(__doc__.splitlines()[0], rounds=3, device=True))
    shape = QUICK if options.quick else Shape()
    figures: dict[str, float | str] = {"threads": options.threads, "torch": torch.__version__}
    for device, suffix in devices(options):
        torch.manual_seed(0)
        for found in (
            translation(device, options.rounds, shape),
            letters(device, 3 * options.rounds),
            costs(device),
        ):
            figures |= {f"{key}{suffix}": float(f"{x:.4g}") for key, x in found.items()}
    write(figures, options.json)


if __name__ == "__main__":
    main()
