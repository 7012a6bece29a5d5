"""`freerun predict`: from sources to what a trained model makes of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from freerun.cli.backspaces import NOTATION, Traces
from freerun.cli.decoding import check_decodable
from freerun.cli.options import Options
from freerun.data.files import decode_lines, read_lines
from freerun.evaluation import Decoding, decode, on_device
from freerun.training import load_policy
from freerun.training.checks import check_lengths
from freerun.training.processes import limit_threads

SUMMARY = "Read sources from a file or from standard input, and print what a model makes of them."
USAGE = "CHECKPOINT [FILE] [--beam N] [--sample] [--show_backspaces]"


@dataclass(frozen=True)
class Predict:
    """The options of `freerun predict` itself.

    Args:
        checkpoint: the folder of a trained model.
        file: what to read, in the format of the model's task; left out, standard input.
        batch_size: sources decoded together.
        show_backspaces: show all that a model with a backspace wrote, with what it withdrew: in
            colours and live on a terminal, and else as described below.
    """

    checkpoint: str
    file: str | None = None
    batch_size: int = 256
    show_backspaces: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")


def run(words: list[str]) -> None:
    """Run the command."""
    options = Options("freerun predict", USAGE, SUMMARY, NOTATION)
    options.add(Predict, "options", positional=["checkpoint", "file"])
    options.add(Decoding, "decoding")
    options.parse(words)
    own = options.build(Predict, "predict")
    decoding = options.build(Decoding, "decoding")
    limit_threads(None)
    policy, codec = load_policy(own.checkpoint)
    name = "standard input" if own.file in (None, "-") else own.file
    if own.file in (None, "-"):
        lines = decode_lines(sys.stdin.buffer.read(), name)
    else:
        lines = read_lines(own.file)
    sources = codec.read([line for _, line in lines], name)
    check_lengths(policy, sources, name)
    check_decodable(policy, sources, decoding)
    traces = Traces(policy, codec, decoding) if own.show_backspaces else None
    size = own.batch_size if traces is None else traces.rows(own.batch_size)
    for start in range(0, len(sources), size):
        numbers = range(start, min(start + size, len(sources)))
        batch = on_device(sources.batch(numbers), policy)
        if traces is not None:
            traces.show(batch)
        else:
            found = decode(policy, batch.source, decoding, ids=batch.ids)
            rows = found.lists(policy.vocabulary.eos)
            for number, row in zip(numbers, rows, strict=True):
                print(codec.write(row, sources.lines[number]))
        sys.stdout.flush()
