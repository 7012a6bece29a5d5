"""The outputs of a trained model for the test examples, which are kept in the folder of its run.

outputs.jsonl has a line for every example, and decoding.json says what they are of: by which model,
for which examples, and how they were decoded, and the errors of the model after correct prefixes.
With the same model, examples and decoding, they are read instead of decoded again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from freerun import __version__
from freerun.data import Codec, Examples, TextExamples
from freerun.digests import DIGESTS, compute_digest
from freerun.errors import CheckpointError
from freerun.evaluation import (
    Backspaces,
    DecodedExamples,
    Decoding,
    Evaluation,
    average_by_position,
    decode_examples,
    find_reference_errors,
    score_decoded,
)
from freerun.files import check_json, format_json, read_json, write
from freerun.metrics import count_errors, get_headline
from freerun.settings import to_dict
from freerun.tasks.base import Task
from freerun.training import Fit
from freerun.training.folders import sweep
from freerun.training.record import digest_examples

OUTPUTS, DECODING = "outputs.jsonl", "decoding.json"
BEAM = "beam_"
"""The prefix of the names of these files for outputs by beam search."""


@dataclass(frozen=True)
class _Decoded:
    """What decoding.json contains.

    Attributes:
        model: the SHA-256 of the list of digests of the model.
        examples: the SHA-256 of the examples.
        decoding: the settings of decoding.
        freerun: the version of freerun.
        backspaces: how often backspaces were used; None if there are none.
        error_after_reference: that of the evaluation.
        digest: the SHA-256 of outputs.jsonl and of the fields above.
    """

    model: str
    examples: str
    decoding: dict[str, Any]
    freerun: str
    backspaces: Backspaces | None = None
    error_after_reference: list[float] | None = None
    digest: str = ""

    def seal(self, lines: bytes) -> _Decoded:
        """Return this with the digest of its fields and of the contents of outputs.jsonl."""
        fields = format_json(asdict(replace(self, digest="")))
        return replace(self, digest=hashlib.sha256(lines + fields.encode()).hexdigest())


def evaluate_run(
    run: Fit,
    task: Task,
    examples: Examples,
    folder: Path,
    *,
    decoding: Decoding,
    batch_size: int,
    prefix: str = "",
    save: bool = True,
) -> Evaluation:
    """Score the outputs of a trained model, which are decoded unless its folder has them.

    Files that are damaged, or of another model, other examples or another decoding, are replaced.

    Args:
        run: the run.
        task: the task.
        examples: the examples.
        folder: the folder of the run.
        decoding: how to decode.
        batch_size: the number of examples decoded together.
        prefix: the beginning of the names of the files.
        save: whether to write the files, as one process of several does.

    Raises:
        WriteError: if they cannot be written.
    """
    wanted = None
    if (folder / DIGESTS).is_file():  # without them, the weights may be any
        model, settings = compute_digest(folder / DIGESTS), to_dict(decoding)
        wanted = _Decoded(model, digest_examples(examples), settings, __version__)
    paths = folder / f"{prefix}{OUTPUTS}", folder / f"{prefix}{DECODING}"
    kept = None if wanted is None else _read(*paths, wanted, len(examples))
    if kept is None:
        written = decode_examples(run.policy, examples, decoding=decoding, batch_size=batch_size)
        control = None
        if _has_control(run, task, examples, decoding):
            wrong = find_reference_errors(run.policy, examples, batch_size=batch_size)
            control, _ = average_by_position(wrong)
        if save and wanted is not None:
            sweep(folder)
            found = replace(wanted, backspaces=written.backspaces, error_after_reference=control)
            _write(*paths, found, list(list_outputs(run.codec, examples, written)))
        kept = written, control
    written, control = kept
    return replace(score_decoded(task, run.codec, written, examples), error_after_reference=control)


def _has_control(run: Fit, task: Task, examples: Examples, decoding: Decoding) -> bool:
    """Return whether errors after correct prefixes can be compared with those of outputs.

    They can if references are the only right outputs, and outputs consist of the best tokens.
    """
    others = decoding.beam > 1 or decoding.sample or decoding.contrastive is not None
    if isinstance(examples, TextExamples) and examples.others:
        return False
    if others or decoding.noise or run.policy.vocabulary.backspace is not None:
        return False
    return not get_headline(task.get_metrics()).corpus


def read_outputs(path: Path) -> list[dict[str, Any]]:
    """Read outputs.jsonl.

    Returns:
        For every example its `source` (None if it is not text), `reference` and `output` as text,
        the number of `errors` in tokens, the `tokens` of the output, and, if the model has a
        backspace, all its `actions`.

    Raises:
        CheckpointError: if there is no such file, or it is damaged.
    """
    try:
        lines = path.read_bytes().splitlines()
        rows = [json.loads(line.decode()) for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    for number, row in enumerate(rows, 1):
        where = f"{path}, line {number}"
        check_json(row, dict[str, Any], where)
        check_json(row.get("source"), str | None, f"{where}: source")
        for name, kind in _FIELDS.items():
            if name in row or name != "actions":
                check_json(row.get(name), kind, f"{where}: {name}")
    return rows


_FIELDS = {
    "reference": str,
    "output": str,
    "errors": int,
    "tokens": list[int],
    "actions": list[int],
}


def list_outputs(
    codec: Codec, examples: Examples, written: DecodedExamples
) -> Iterator[dict[str, Any]]:
    """Yield the lines of outputs.jsonl, as `read_outputs` returns them."""
    references = [codec.text(row) for row in examples.references]
    if isinstance(examples, TextExamples):  # tokens may not have all that texts have
        references = list(map(codec.join_lines, examples.texts))
    errors = count_errors(codec, written.hypotheses, examples)
    for number, tokens in enumerate(written.hypotheses):
        source = examples.batch([number]).source
        row = {
            "source": codec.source_text(source.values[0][source.mask[0]]),
            "reference": references[number],
            "output": codec.text(tokens),
            "errors": errors[number],
            "tokens": tokens,
        }
        yield row if written.actions is None else {**row, "actions": written.actions[number]}


def _write(path: Path, about: Path, found: _Decoded, rows: list[dict[str, Any]]) -> None:
    """Write both files; the one that has the digest of the other last."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    write(path, lines)
    write(about, format_json(asdict(found.seal(lines))))


def _read(
    path: Path, about: Path, wanted: _Decoded, count: int
) -> tuple[DecodedExamples, list[float] | None] | None:
    """Read outputs and the errors after correct prefixes.

    Returns:
        Both; None if they are missing, damaged or others than those wanted.
    """
    if not path.is_file() or not about.is_file():
        return None
    try:
        contents = read_json(about)
        check_json(contents, _Decoded, str(about))
        counts = contents.pop("backspaces")
        found = _Decoded(**contents, backspaces=None if counts is None else Backspaces(**counts))
        same = replace(found, backspaces=None, error_after_reference=None, digest="") == wanted
        if not same or found.seal(path.read_bytes()) != found:
            return None
        rows = read_outputs(path)
    except (CheckpointError, OSError):
        return None
    if len(rows) != count:
        return None
    tokens = [row["tokens"] for row in rows]
    actions = None if counts is None else [row["actions"] for row in rows]
    return DecodedExamples(tokens, actions, found.backspaces), found.error_after_reference
