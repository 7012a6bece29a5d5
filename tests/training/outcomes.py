"""What runs leave behind, and how two of them are compared."""

import json

import pytest
import safetensors.torch
import torch

KEPT = ("loss", "grad_norm", "own_share", "eval_", "step")


def result(output, kept=KEPT):
    """The weights by their names, and what was logged at each update."""
    (path,) = output.glob("*model.safetensors")
    weights = safetensors.torch.load_file(path)
    if (output / "modules.safetensors").exists():
        weights |= safetensors.torch.load_file(output / "modules.safetensors")
    return weights, [
        {name: value for name, value in entry.items() if name.startswith(kept)}
        for entry in json.loads((output / "log.json").read_text())
        if "train_loss" not in entry
    ]


def close(one, other, tolerance=1e-12):
    """Assert that results of runs in double precision are the same."""
    assert one[0].keys() == other[0].keys()
    for name, weight in one[0].items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(other[0][name], weight, rtol=0, atol=tolerance)
    assert len(one[1]) == len(other[1])
    for entry, same in zip(one[1], other[1], strict=True):
        assert same == pytest.approx(entry, rel=1e-6)
