"""Draw the target of the KL loss of SEARNN, P_C(a) ∝ exp(-α·c(a)), for several α.

Above: the costs of all tokens of a cell and the resulting targets, for the Hamming cost, and for
the edit distance after a mistake; both are divided by the length of the reference, with roll-outs
by the reference policy. Below: the probability of the best token, for tasks of several sizes.

Run `python examples/target_distribution.py target_distribution.png`.
"""

from __future__ import annotations

import string
import sys

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from freerun.costs import edit_distance, hamming
from freerun.losses import target_distribution
from freerun.references import copy, min_edit_distance

BEST, OTHER, LINES = "#D55E00", "#9BB8CC", ("#0072B2", "#009E73", "#CC79A7", "#000000")
ALPHAS = (1.0, 10.0, 30.0, 100.0, 300.0)
LETTERS = string.ascii_lowercase
SIZES = (
    ("OCR: 26 tokens, length 8", 26, 8),
    ("spelling: 43 tokens, length 10", 43, 10),
    ("translation: 25 tokens tried, length 25", 25, 25),
    ("translation: all 22,822 tokens, length 25", 22_822, 25),
)


def tokens_of(word: str) -> Tensor:
    """Return the numbers of letters."""
    return torch.tensor([LETTERS.index(letter) for letter in word])


def costs_after(prefix: str, word: str, *, eos: bool) -> Tensor:
    """Return the lowest cost after `prefix` of every letter, and of eos if there is one."""
    trials = torch.cat([tokens_of(prefix).expand(26, -1), torch.arange(26)[:, None]], 1)
    references = tokens_of(word).expand(26, -1)
    width, length = torch.full((26,), len(prefix) + 1), torch.full((26,), len(word))
    policy, cost = (min_edit_distance, edit_distance) if eos else (copy, hamming)
    completions, more = policy(trials, width, references, length)
    rows = zip(trials, completions, more.tolist(), strict=True)
    whole = [torch.cat([trial, completion[:count]]) for trial, completion, count in rows]
    outputs = torch.nn.utils.rnn.pad_sequence(whole, batch_first=True)
    found = cost(outputs, width + more, references, length)
    if not eos:
        return found
    ended = cost(trials[:1], width[:1] - 1, references[:1], length[:1])
    return torch.cat([found, ended])


def bars(axes: Axes, values: Tensor, best: Tensor) -> None:
    """Draw a bar for every token; those of minimum cost have another color and a label."""
    axes.bar(range(len(values)), values.tolist(), width=0.8, color=OTHER)
    axes.bar(best.tolist(), values[best].tolist(), width=0.8, color=BEST)
    names = [*LETTERS, "eos"]
    axes.set_xticks(best.tolist(), [names[i] for i in best.tolist()], fontsize=9, color=BEST)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(-1, 27)


def cell(figure: SubFigure, title: str, costs: Tensor) -> None:
    """Draw the costs of a cell, and its target for every α."""
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    first, *others = figure.subplots(1, 1 + len(ALPHAS))
    best = (costs == costs.min()).nonzero()[:, 0]
    bars(first, costs, best)
    first.set_title("cost c(a)", fontsize=10)
    eighths = range(0, 1 + round(8 * float(costs.max())), 1 + (costs.max() > 0.25))
    first.set_yticks([i / 8 for i in eighths], [f"{i}/8" if i else "0" for i in eighths])
    if len(costs) > 26:
        first.annotate("eos", (26, float(costs[-1])), (24.6, float(costs[-1])), ha="right",
                       va="top", fontsize=9)  # fmt: skip
    for axes, alpha in zip(others, ALPHAS, strict=True):
        target = target_distribution(costs[None], torch.ones(1, len(costs)).bool(), alpha)[0]
        bars(axes, target, best)
        axes.set_title(f"α = {alpha:g}", fontsize=10)
        axes.set_ylim(0, 1.12)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"] if axes is others[0] else [])
        share = float(target[best].sum())
        text = f"{100 * share:.0f} %" if share < 0.995 else "100 %"
        axes.text(0.97, 0.97, text, ha="right", va="top", fontsize=9, color=BEST,
                  transform=axes.transAxes)  # fmt: skip


def shares(axes: Axes) -> None:
    """Draw the probability of the best token by α, if every other token costs 1/length more."""
    alphas = torch.logspace(0, 3, 400)
    for (label, tokens, length), colour in zip(SIZES, LINES, strict=True):
        costs = torch.full((1, tokens), 1 / length)
        costs[0, 0] = 0
        mask = torch.ones_like(costs).bool()
        best = [float(target_distribution(costs, mask, float(a))[0, 0]) for a in alphas]
        axes.plot(alphas, best, color=colour, label=label, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xticks([*ALPHAS, 1000], [f"{a:g}" for a in (*ALPHAS, 1000)])
    axes.set_xlim(1, 1000)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("α")
    axes.set_ylabel("$P_C$ of the best token")
    axes.legend(fontsize=9, loc="upper left", facecolor="white", edgecolor="none", framealpha=1)


def main(path: str) -> None:
    """Draw the figure to `path`."""
    figure = Figure(figsize=(9.0, 8.0), layout="constrained")
    upper, middle, lower = figure.subfigures(3, 1, height_ratios=[1, 1, 1.5])
    cell(upper, "Hamming cost / length: the first “e” of “spelling”",
         costs_after("sp", "spelling", eos=False))  # fmt: skip
    cell(middle, "edit distance / length: after “spl” was written for “spelling”",
         costs_after("spl", "spelling", eos=True))  # fmt: skip
    lower.suptitle("the best token costs 0, all others 1/length", fontsize=11, x=0.01, ha="left")
    shares(lower.subplots())
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/target_distribution.py PICTURE.png")
    main(sys.argv[1])
