"""`python -m tests.fuzz`: tries damaged and hostile input on the command line of freerun."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "HF_HUB_OFFLINE"):
    os.environ[_name] = "1"
os.environ.update(
    TOKENIZERS_PARALLELISM="false", HF_DATASETS_DISABLE_PROGRESS_BARS="1", FREERUN_CACHE="off"
)

from tests.fuzz import data, folders, settings  # noqa: E402
from tests.fuzz.bases import make_bases  # noqa: E402
from tests.fuzz.run import Cases, Result, prepare, run_cases  # noqa: E402

KINDS = {**data.KINDS, **folders.KINDS, **settings.KINDS}


def main() -> int:
    """Run the cases; return 0 if all were accepted unchanged or refused with a message."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="what determines the cases")
    parser.add_argument("--cases", type=int, default=200, help="how many are run")
    parser.add_argument("--only", type=int, nargs="+", help="run the cases of these numbers")
    parser.add_argument("--kind", help="run the cases whose kind begins so")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--keep", type=Path, help="a folder to keep the files of the cases in")
    parser.add_argument("--json", type=Path, help="a file to write all results to")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="fuzz."))
    try:
        start = time.monotonic()
        expected = prepare(lambda: make_bases(root / "bases"))
        print(f"the inputs to damage were made in {time.monotonic() - start:.0f} s", flush=True)
        chosen = _choose(options.seed, options.cases)
        numbers = options.only or [
            number for number, kind in enumerate(chosen) if kind.startswith(options.kind or "")
        ]
        if options.only:
            chosen = _choose(options.seed, max(numbers) + 1)
        where = (options.keep or root / "cases").resolve()
        cases = Cases(
            *(options.seed, chosen, KINDS, root / "bases", expected, where),
            kept=options.keep is not None,
        )

        def work(part: Sequence[int]) -> Iterator[Result]:
            for result in run_cases(cases, part):
                if not result.right or options.only:
                    _show(result)
                yield result

        results = _run_all(work, numbers, max(options.workers, 1), root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(_table(results), _faults(results, options.seed), sep="\n")
    print(f"{len(results):,} cases in {time.monotonic() - start:.0f} s, seed {options.seed}")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return 0 if all(result.right for result in results) else 1


def _run_all(
    work: Callable[[Sequence[int]], Iterator[Result]],
    numbers: Sequence[int],
    workers: int,
    root: Path,
) -> list[Result]:
    """Return the results of all cases, which are shared out to processes of one thread each."""
    children = []
    for worker in range(workers):
        child = os.fork()
        if not child:
            with (root / f"results {worker}").open("w") as file:
                for result in work(numbers[worker::workers]):
                    file.write(json.dumps(asdict(result)) + "\n")
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        raise RuntimeError("a worker died")
    lines = "".join(path.read_text() for path in root.glob("results *")).splitlines()
    return sorted((Result(**json.loads(line)) for line in lines), key=lambda r: r.number)


def _choose(seed: int, cases: int) -> list[str]:
    """Return the kind of each case: all in turn, as often as each is to come."""
    turn = [kind for kind, (_, share) in KINDS.items() for _ in range(share)]
    Random(seed).shuffle(turn)
    return [turn[number % len(turn)] for number in range(cases)]


def _show(result: Result) -> None:
    lines = [f"{result.number}, {result.kind}: {result.change}: {result.outcome}: {result.fault}"]
    lines += [f"    freerun {shlex.join(words)}" for words in result.commands]
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _table(results: list[Result]) -> str:
    """Return kinds of cases and how many had each outcome."""
    counts = Counter((result.kind, result.outcome) for result in results)
    outcomes = [
        "accepted",
        "refused",
        *sorted({r.outcome for r in results} - {"accepted", "refused"}),
    ]
    lines = [f"{'':26}" + "".join(f"{name:>14}" for name in ["cases", *outcomes])]
    for kind in [*KINDS, "all"]:
        row = [sum(n for (k, o), n in counts.items() if kind in (k, "all") and o == name)
               for name in outcomes]  # fmt: skip
        if sum(row):
            lines.append(f"{kind:26}" + "".join(f"{count:14,}" for count in [sum(row), *row]))
    return "\n".join(lines)


def _faults(results: list[Result], seed: int) -> str:
    """Return faults that look alike together, with the first cases that show each."""
    groups: dict[tuple[str, str], list[int]] = {}
    for result in results:
        if not result.right:
            groups.setdefault((result.outcome, result.fault), []).append(result.number)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return "\n".join(
        f"{len(numbers):5} x {outcome}: {fault}\n        make fuzz SEED={seed} ONLY="
        f"'{' '.join(map(str, numbers[:5]))}'"
        for (outcome, fault), numbers in ordered
    )


if __name__ == "__main__":
    sys.exit(main())
