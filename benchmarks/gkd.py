"""Time an update of `gkd` relative to TRL's GKD trainer, on the same batch and model.

Run `python benchmarks/gkd.py --json gkd.json` where trl is installed; without it, only the time of
ours is measured. The model (Agarwal et al. 2024, arXiv 2306.13649) is its own teacher. It was
trained until it can count, so that own samples of both have the same tokens but for a few. The
target of `gkd_on_policy_vs_trl` and `gkd_vs_trl` is at most 0.7.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from counting import Toy
from each_model import Figures, benchmark
from roll_outs import idle, updates
from timing import ratio, side_by_side
from torch import Tensor
from torch.nn.functional import pad

from freerun.batch import Batch
from freerun.methods import GKD
from freerun.models.huggingface import HuggingFacePolicy


def distillers(
    policy: HuggingFacePolicy, batch: Batch, optimizer: torch.optim.Optimizer
) -> dict[str, Callable[[], None]]:
    """Return an update on the targets and one on the model's own samples; nothing without trl.

    The teacher is a copy of the model. All prompts have the same length, as in `Toy`.
    """
    if policy.config.is_encoder_decoder:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is experimental, and uses what is deprecated
        try:
            from trl.experimental.gkd import GKDConfig, GKDTrainer
        except ImportError as error:
            print(f"without figures of TRL's GKD trainer: {error}")
            return {}
        trainer = made(GKDTrainer, GKDConfig, policy)
    trainer.current_gradient_accumulation_steps = 1  # as its own loop sets it

    def run(share: float) -> None:
        trainer.lmbda = share
        optimizer.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.training_step(policy.model, taught(batch))
        optimizer.step()

    # The trainer draws random() <= lmbda, so that 0 is hardly ever on its own outputs.
    return {"gkd": lambda: run(0.0), "gkd_on_policy": lambda: run(1.0)}


def taught(batch: Batch) -> dict[str, Tensor]:
    """Return a batch in the form of the trainer's collator."""
    prompts, mask = batch.source.values, batch.source.mask.long()
    length = prompts.shape[1]
    return {
        "input_ids": torch.cat([prompts, batch.target], 1),
        "attention_mask": torch.cat([mask, batch.mask.long()], 1),
        "labels": pad(batch.target.where(batch.mask, -100), (length, 0), value=-100),
        "prompts": prompts,
        "prompt_attention_mask": mask,
    }


def made(trainer: type, config: type, policy: HuggingFacePolicy) -> Any:
    """Return a trainer for a policy's model; its optimizer and data are not used."""
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {word: token for token, word in enumerate(policy.vocabulary.symbols)}
    end, fill = (
        policy.vocabulary.symbols[i] for i in (policy.vocabulary.eos, policy.vocabulary.pad)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token=fill)), eos_token=end, pad_token=fill
    )
    with tempfile.TemporaryDirectory() as folder:
        return trainer(
            model=policy.model,
            teacher_model=deepcopy(policy.model),
            args=config(
                output_dir=folder,
                use_cpu=policy.device.type == "cpu",
                max_new_tokens=policy.max_new_tokens,
                bf16=False,
                gradient_checkpointing=False,
                report_to="none",
            ),
            data_collator=lambda rows: rows,
            train_dataset=Dataset.from_list([{"messages": []}]),
            processing_class=tokenizer,
        )


def measure(kind: str, rounds: int, device: torch.device, quick: bool) -> Figures:
    """Time an update on the targets and one on own samples, by both."""
    toy = Toy(most=12, rows=8) if quick else Toy()
    policy = toy.policy(kind, device, updates=20 if quick else 150)
    teacher, batch = deepcopy(policy), toy.batch(device)
    optimizer = idle(policy.train())
    runs = {
        name: updates(policy, optimizer, [batch], GKD(teacher=teacher, share=share))
        for name, share in (("gkd", 0.0), ("gkd_on_policy", 1.0))
    }
    theirs = {f"{name}_trl": run for name, run in distillers(policy, batch, optimizer).items()}
    times = side_by_side(runs | theirs, rounds=rounds, device=device)
    figures = {f"{name}_seconds": statistics.median(took) for name, took in times.items()}
    if theirs:
        figures |= {f"{name}_vs_trl": ratio(times, name, f"{name}_trl") for name in runs}
    return figures


if __name__ == "__main__":
    benchmark(__doc__.splitlines()[0], ("gpt2", "llama"), measure, lambda key: False)
