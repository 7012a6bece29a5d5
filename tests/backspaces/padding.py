"""Lists of different length as tensors."""

import torch


def padded(rows, pad=0, *, more=0):
    """Rows as a tensor and its mask, with `more` columns than the longest needs."""
    width = max(map(len, rows), default=0) + more
    values = torch.full((len(rows), width), pad)
    for row, found in enumerate(rows):
        values[row, : len(found)] = torch.tensor(found, dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows])
    return values, torch.arange(width) < lengths[:, None]
