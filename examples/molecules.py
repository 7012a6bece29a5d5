"""Fine-tune an encoder-decoder of molecules, with a cost and metrics that know chemistry.

    python examples/molecules.py MODEL MOLECULES.smi.gz
    python examples/molecules.py MODEL MOLECULES.smi.gz --method searnn --init runs/molecules/mle

A molecule has many SMILES. The model reads one at random and writes the canonical one, which RDKit
(pip install rdkit) gives. MODEL is the folder of an encoder-decoder with a tokenizer of SMILES;
MOLECULES has one SMILES per line, plain or gzipped. SEARNN's cost is the distance of two molecules,
whatever their SMILES: what is not a molecule costs 1.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from rdkit import Chem, DataStructs, RDLogger
from rdkit.Chem import rdFingerprintGenerator
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainingArguments

from freerun.costs import PythonCost
from freerun.data import Row, Splits
from freerun.data.files import read_lines
from freerun.methods import MLE, SEARNN, Method
from freerun.methods.searnn import Candidates, LearnedRollIn, LearnedRollOut, PolicyTokens
from freerun.metrics import metric
from freerun.tasks import Task
from freerun.training import Trainer

RDLogger.DisableLog("rdApp.*")  # it writes a line for each output that is not a molecule
_FINGERPRINTS = rdFingerprintGenerator.GetMorganGenerator(radius=2)


@cache
def canonical(smiles: str) -> str | None:
    """Return the canonical SMILES; None if it is not a molecule."""
    molecule = Chem.MolFromSmiles(smiles) if smiles else None
    return None if molecule is None else Chem.MolToSmiles(molecule)


@cache
def _fingerprint(smiles: str) -> Any:
    return _FINGERPRINTS.GetFingerprint(Chem.MolFromSmiles(smiles))


def distance(output: str, reference: str) -> float:
    """Return 1 - the Tanimoto similarity of Morgan fingerprints, in [0, 1]."""
    found, wanted = canonical(output), canonical(reference)
    if found is None or wanted is None:
        return 1.0
    return 1 - DataStructs.TanimotoSimilarity(_fingerprint(found), _fingerprint(wanted))


def valid(outputs: list[str], references: list[str]) -> float:
    """Compute the fraction of outputs that are molecules."""
    return sum(canonical(output) is not None for output in outputs) / len(outputs)


def same_molecule(outputs: list[str], references: list[str]) -> float:
    """Compute the fraction of outputs that are the molecule of the reference."""
    pairs = zip(outputs, references, strict=True)
    same = sum(canonical(output) == canonical(reference) for output, reference in pairs)
    return same / len(outputs)


@metric(greater_is_better=False)
def mean_distance(outputs: list[str], references: list[str]) -> float:
    """Compute the mean distance of outputs and references."""
    return sum(map(distance, outputs, references)) / len(outputs)


@dataclass(frozen=True)
class Molecules(Task):
    """Random SMILES of molecules, to be written in canonical form.

    Args:
        data: a file with one SMILES per line.
        size: the number of molecules to use.
        held_out: the number of molecules in dev, and in test.
        seed: the seed of the split and of the random SMILES.
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "exact_match",
        f"{__file__}:same_molecule",
        f"{__file__}:valid",
        f"{__file__}:mean_distance",
    )

    data: str
    size: int = 6000
    held_out: int = 500
    seed: int = 0

    def rows(self) -> Splits[Row]:
        """Return random and canonical SMILES of each molecule."""
        draw = random.Random(self.seed)  # noqa: S311
        lines = [line.strip() for _, line in read_lines(self.data)]
        rows: list[Row] = []
        for line in draw.sample(lines, min(self.size, len(lines))):
            molecule = Chem.MolFromSmiles(line)
            order = list(range(molecule.GetNumAtoms()))
            draw.shuffle(order)
            renumbered = Chem.RenumberAtoms(molecule, order)
            source = Chem.MolToSmiles(renumbered, canonical=False)
            rows.append({"source": source, "target": Chem.MolToSmiles(molecule)})
        n = self.held_out
        return Splits({"dev": rows[:n], "test": rows[n : 2 * n], "train": rows[2 * n :]})


def build_method(name: str, tokenizer: Any) -> Method:
    """Return MLE, or SEARNN with the distance of molecules as cost.

    Prefixes and roll-outs are the policy's own: the reference would complete them by edit distance,
    which mostly gives no molecule.
    """
    if name == "mle":
        return MLE()
    return SEARNN(
        cost=PythonCost(distance, on="text", write=tokenizer.decode),
        reference="min_edit_distance",
        roll_in=LearnedRollIn(),
        roll_out=LearnedRollOut(),
        candidates=Candidates(cells=2, tokens=PolicyTokens(4)),
    )


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate, train and evaluate; return the metrics on the test split."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the folder of an encoder-decoder of SMILES")
    parser.add_argument("data", help="a file with one SMILES per line")
    parser.add_argument("--method", choices=["mle", "searnn"], default="mle")
    parser.add_argument("--init", help="the folder of a trained model to start from")
    parser.add_argument("--output", default="runs/molecules")
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--held-out", type=int, default=500)
    options = parser.parse_args(given)

    task = Molecules(options.data, held_out=options.held_out)
    splits = task.rows()
    path = options.init or options.model
    tokenizer = AutoTokenizer.from_pretrained(path)
    trainer = Trainer(
        model=AutoModelForSeq2SeqLM.from_pretrained(path),
        method=build_method(options.method, tokenizer),
        task=task,
        args=TrainingArguments(
            options.output,
            max_steps=options.updates,
            per_device_train_batch_size=32,
            learning_rate=options.learning_rate,
            warmup_steps=0.1,
            lr_scheduler_type="linear",
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        ),
        processing_class=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
    )
    print("before", trainer.evaluate())
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    print("after", metrics)
    return metrics


if __name__ == "__main__":
    main()
