"""Build every text architecture of transformers tiny, and try it as a policy.

    python -m tests.models.architectures [NAME ...] [--markdown FILE] [--json FILE]

Models have random weights and come from their configurations alone. Each is read in whole rows,
step by step and as trees, decoded greedily beside `generate`, and trained for a few updates, always
with rows longer than every window that it was built with.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import multiprocessing
import resource
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
)
from transformers.models.auto import modeling_auto

from freerun.batch import Batch, Source
from freerun.decoding import greedy
from freerun.models.huggingface import adapt
from freerun.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnop"
WORDS = Vocabulary(("<pad>", "<eos>", "<bos>", *LETTERS), bos=2, pad=0, eos=1)
ROWS = 32
"""The rows of the tables of embeddings: more than there are tokens."""
WINDOW, POSITIONS = 8, 96
LENGTHS, CELLS = (9, 21, 1), 14
"""Of sources, and of targets; with both, rows are longer than windows."""
LIMIT = 10

MAX_SECONDS, MAX_BYTES = 120, 8 * 2**30
"""What trying an architecture may take, at most."""

NOT_GENERATE = "`generate` writes other tokens than its own forward pass; greedy decoding does not"

SIZES = {
    "vocab_size": ROWS,
    "decoder_vocab_size": ROWS,
    "src_vocab_size": ROWS,
    "tgt_vocab_size": ROWS,
    "n_words": ROWS,
    "vocab_size_per_layer_input": ROWS,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "embed_dim", "input_embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "encoder_num_hidden_layers"), 2),
    **dict.fromkeys(("num_sparse_encoder_layers", "num_sparse_decoder_layers"), 1),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "kv_channels", "d_head", "attention_head_dim"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "d_inner", "dff"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts"), 1),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "v_head_dim"), 8),
    "qk_rope_head_dim": 8,
    "expert_capacity": 64,
    "qk_head_dim": 16,
    "rotary_dim": 4,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "max_position_embeddings": POSITIONS,
    **dict.fromkeys(("n_positions", "n_ctx", "max_seq_len", "max_sequence_length"), POSITIONS),
    **dict.fromkeys(("max_target_positions", "max_source_positions"), POSITIONS),
    **dict.fromkeys(
        ("max_encoder_position_embeddings", "max_decoder_position_embeddings"), POSITIONS
    ),
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    **dict.fromkeys(("sliding_window", "sliding_window_size", "window_size"), WINDOW),
    **dict.fromkeys(("attention_chunk_size", "local_attention", "attention_window_size"), WINDOW),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 8),
    **dict.fromkeys(("pad_token_id",), WORDS.pad),
    **dict.fromkeys(("eos_token_id",), WORDS.eos),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id"), WORDS.bos),
    **dict.fromkeys(("image_token_id", "audio_token_id", "video_token_id"), ROWS - 1),
    "forced_eos_token_id": None,
    "forced_bos_token_id": None,
}
"""Values of settings, by the names that configurations have for them."""

SPECIAL: dict[str, dict[str, object]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "led": {"attention_window": WINDOW},
    "llama4_text": {"no_rope_layers": [1, 0], "num_hidden_layers": 2},
    "longcat_flash": {"head_dim": 8},
    "t5": {"num_hidden_layers": 2},
    "xmod": {"default_language": "en_XX"},
}
"""Values for single architectures, where the names are used in another way."""


@dataclass
class Result:
    """What came of an architecture."""

    name: str
    kind: str
    model: str = ""
    verdict: str = ""
    why: str = ""
    trees: bool = False
    seconds: float = 0.0


def list_architectures() -> list[tuple[str, str]]:
    """Return all architectures that AutoModelForCausalLM and AutoModelForSeq2SeqLM know."""
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    seq2seq = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    return [(name, "causal") for name in causal] + [(name, "seq2seq") for name in seq2seq]


def tiny_config(name: str, kind: str):
    """Return a tiny configuration."""
    if name == "encoder-decoder":
        bert = [tiny_config("bert", "causal").to_dict() for _ in range(2)]
        return CONFIG_MAPPING[name](
            encoder=bert[0] | {"is_decoder": False},
            decoder=bert[1] | {"is_decoder": True, "add_cross_attention": True},
            decoder_start_token_id=WORDS.bos,
            pad_token_id=WORDS.pad,
            eos_token_id=WORDS.eos,
        )
    return _shrink(CONFIG_MAPPING[name], name, kind)


def _shrink(cls, name: str, kind: str):
    default = cls()
    known = set(inspect.signature(cls.__init__).parameters) | set(vars(default))
    known |= set(getattr(cls, "attribute_map", {}))
    fixed = {name for name in dir(cls) if isinstance(getattr(cls, name, None), property)}
    other = getattr(cls, "attribute_map", {})  # names that stand for others
    fixed |= {name for name, meant in other.items() if meant in fixed}
    values = {key: value for key, value in SIZES.items() if key in known - fixed}
    if "qk_rope_head_dim" in values:  # the width of heads follows, and there are no groups
        values.pop("head_dim", None)
        values.update({k: 4 for k in ("num_key_value_heads",) if k in values})
    if default.is_encoder_decoder and kind == "causal":
        values |= {"is_encoder_decoder": False}
    if kind == "causal" and getattr(default, "is_decoder", None) is False:
        values |= {"is_decoder": True}
    for key in ("layer_types", "mlp_layer_types"):
        kept = None if key in fixed else getattr(default, key, None)
        if isinstance(kept, list):
            # One layer of each of two kinds, if there are as many.
            kinds = list(dict.fromkeys(kept))[:2]
            values[key] = (kinds * 2)[:2]
    for key, sub in getattr(cls, "sub_configs", {}).items():
        inner = getattr(default, key, None)
        sub = type(inner) if inner is not None else sub
        if hasattr(sub, "model_type"):
            with suppress(Exception):  # those that cannot be made smaller stay as they are
                values[key] = _shrink(sub, "", kind).to_dict()
    return cls(**(values | SPECIAL.get(name, {})))


def tiny_model(name: str, kind: str, seed: int = 0) -> nn.Module:
    """Return a tiny model whose weights are so large that its choices differ."""
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSeq2SeqLM
    config = tiny_config(name, kind)
    torch.manual_seed(seed)
    model = auto.from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        tables = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.is_floating_point():
                scale = 0.7 if parameter in tables else 0.25
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def make_batch(policy, seed: int = 0) -> Batch:
    """Return sources of different lengths and targets."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randint(3, WORDS.actions, shape, generator=generator)  # noqa: E731
    values = draw(len(LENGTHS), max(LENGTHS))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    targets = draw(len(LENGTHS), CELLS)
    full = torch.ones_like(targets, dtype=torch.bool)
    return Batch(torch.arange(len(LENGTHS)), Source(values.where(mask, 0), mask), targets, full)


def own_scores(policy, source, inputs):
    """Return the scores of the model's own forward pass, for each row alone."""
    found = []
    for row, length in enumerate(source.lengths.tolist()):
        prompt, written = source.values[row, :length][None], inputs[row][None]
        if policy.config.is_encoder_decoder:
            scores = policy.inner(input_ids=prompt, decoder_input_ids=written, use_cache=False)
        else:
            scores = policy.inner(input_ids=torch.cat([prompt, written[:, 1:]], 1), use_cache=False)
        found.append(scores.logits[0, -inputs.shape[1] :, : WORDS.actions])
    return torch.stack(found)


def largest_difference(one, other) -> float:
    """Return the largest difference, relative to the largest score."""
    return float((one - other).abs().max() / (1 + other.abs().max()))


def check(policy) -> list[str]:
    """Return what is wrong with a policy."""
    faults = []
    batch = make_batch(policy)
    source, inputs = batch.source, batch.inputs(WORDS.bos)
    everywhere = torch.ones_like(inputs, dtype=torch.bool)

    def compare(what, scores, expected):
        difference = largest_difference(scores, expected)
        if not difference <= 2e-4:
            faults.append(f"{what} differs by {difference:.2g}")

    with torch.no_grad():
        expected = own_scores(policy, source, inputs)
        trace = policy.force(source, inputs)
        compare("force", trace.logits(everywhere).unflatten(0, inputs.shape), expected)
        state, steps = policy.start(source), []
        for tokens in inputs.T:
            scores, state = policy.step(state, tokens)
            steps.append(scores)
        compare("step", torch.stack(steps, 1), expected)
        rows, cells = torch.tensor([2, 0, 1]), torch.tensor([3, CELLS - 2, 7])
        scores, _ = policy.step(trace.fork(rows, cells), inputs[rows, cells + 1])
        compare("a fork", scores, expected[rows, cells + 1])
        faults += check_greedy(policy, source)
        if policy.reads_trees:
            faults += check_trees(policy, source, inputs, compare)
    faults += check_training(policy, batch)
    return faults


def check_greedy(policy, source) -> list[str]:
    """Compare greedy outputs with those of `generate`, row by row."""
    found = greedy(policy, source)
    for row, length in enumerate(source.lengths.tolist()):
        prompt = source.values[row, :length][None]
        config = GenerationConfig(
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=WORDS.eos,
            pad_token_id=WORDS.pad,
            decoder_start_token_id=WORDS.bos,
            suppress_tokens=list(range(WORDS.actions, ROWS)),
        )
        written = policy.inner.generate(
            prompt, attention_mask=torch.ones_like(prompt), generation_config=config
        )[0]
        written = written[1:] if policy.config.is_encoder_decoder else written[length:]
        ours = _cut(found.tokens[row, : found.lengths[row]].tolist())
        theirs = _cut(written.tolist())
        if ours != theirs:
            plain = _cut(decode_plainly(policy, prompt))
            if ours != plain:
                return [f"greedy writes {ours}, its own forward pass {plain}, generate {theirs}"]
            return [NOT_GENERATE]
    return []


def _cut(tokens: list[int]) -> list[int]:
    """Return tokens before the first padding, which some models give no position."""
    return tokens[: tokens.index(WORDS.pad)] if WORDS.pad in tokens else tokens


def decode_plainly(policy, prompt) -> list[int]:
    """Return the tokens with the largest scores of the model's own forward pass, one by one."""
    start = [WORDS.bos] if policy.config.is_encoder_decoder else []
    written = torch.tensor([start], dtype=torch.long)
    while len(written[0]) - len(start) < LIMIT and WORDS.eos not in written[0]:
        given = (
            {"input_ids": prompt, "decoder_input_ids": written}
            if start
            else {"input_ids": torch.cat([prompt, written], 1)}
        )
        scores = policy.inner(**given, use_cache=False).logits[:, -1, : WORDS.actions]
        written = torch.cat([written, scores.argmax(-1)[:, None]], 1)
    return written[0, len(start) :].tolist()


def check_trees(policy, source, inputs, compare) -> list[str]:
    """Compare trees longer than every window with their paths, and rows that withdraw tokens."""
    branch = inputs[:, 1:].flip(1)
    tree, count = torch.cat([inputs, branch], 1), inputs.shape[1]
    parents = torch.tensor([*range(-1, count - 1), 0, *range(count, 2 * count - 2)])
    trace = policy.force(source, tree, parents.expand_as(tree))
    scores = trace.logits(torch.ones_like(tree, dtype=torch.bool)).unflatten(0, tree.shape)
    path = [0, *range(count, 2 * count - 1)]
    compare("a tree", scores[:, :count], own_scores(policy, source, inputs))
    compare("a branch", scores[:, path], own_scores(policy, source, tree[:, path]))
    eraser, nothing = policy.eraser(source), torch.zeros(len(inputs), dtype=torch.bool)
    for cell in range(count):
        eraser.read(inputs[:, cell], nothing)
    for _ in range(count - 1):
        scores = eraser.read(inputs[:, 0], ~nothing)
    expected = own_scores(policy, source, tree[:, path])
    compare("withdrawing", scores, expected[:, 0])
    for cell in range(1, count):
        scores = eraser.read(branch[:, cell - 1], nothing)
    compare("writing again", scores, expected[:, -1])
    return []


def check_training(policy, batch) -> list[str]:
    """Take the gradient in training mode, and a few updates."""
    faults = []
    policy.train()
    inputs, mask = batch.inputs(WORDS.bos), batch.mask
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=3e-3), []
    for _ in range(8):
        scores = policy.force(batch.source, inputs).logits(mask)
        loss = nn.functional.cross_entropy(scores, batch.target[mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    if not losses[-1] < losses[0]:
        faults.append(f"8 updates change the loss from {losses[0]:.2f} to {losses[-1]:.2f}")
    policy.eval()
    return faults


def try_architecture(name: str, kind: str) -> Result:
    """Build an architecture tiny and try it."""
    result, start = Result(name, kind), time.perf_counter()
    try:
        model = tiny_model(name, kind)
    except Exception as error:  # of any library that it needs
        result.verdict, result.why = "not built", _one_line(error)
        return result
    result.model = type(model).__name__
    try:
        policy = adapt(model, WORDS, limit=LIMIT)
        result.trees = policy.reads_trees
    except ValueError as error:
        result.verdict, result.why = "refused", _one_line(error)
    else:
        try:
            faults = check(policy)
        except Exception as error:
            faults = [f"{type(error).__name__}: {_one_line(error)}"]
        wrong = [fault for fault in faults if fault != NOT_GENERATE]
        result.verdict, result.why = ("wrong" if wrong else "right"), "; ".join(faults)
    result.seconds = time.perf_counter() - start
    return result


def try_apart(name: str, kind: str) -> Result:
    """Try an architecture in a process of its own, which may need too much time or memory."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
        send.send(try_architecture(name, kind))

    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        if receive.poll(MAX_SECONDS):
            return receive.recv()
        return Result(name, kind, verdict="not built", why=f"it takes over {MAX_SECONDS} s")
    except EOFError:
        return Result(name, kind, verdict="not built", why="its process died")
    finally:
        process.kill()
        process.join()


def _one_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:400]


def make_table(results: list[Result]) -> str:
    """Return the results as a table in Markdown: what they have in common, and which they are."""
    groups: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda each: (each.kind != "causal", each.name)):
        kind = "causal" if result.kind == "causal" else "encoder-decoder"
        label = f"{result.verdict}, {kind}"
        if result.verdict == "right":
            label += ", with trees" if result.trees else ", without trees"
        elif "a sum over all tokens" in result.why:
            label = "refused: recurrent and hybrid models"
        elif result.verdict == "refused":
            label = "refused: they read in a way of their own"
        elif result.verdict == "not built":
            label = "not tried: no tiny model could be built from a configuration"
        groups.setdefault(label, []).append(result.name)
    lines = ["| result | number | architectures |", "|---|---|---|"]
    for label in sorted(groups, key=lambda each: (not each.startswith("right"), each)):
        names = ", ".join(groups[label])
        lines.append(f"| {label} | {len(groups[label])} | {names} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Try the named architectures, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    results = []
    for name, kind in list_architectures():
        if options.names and name not in options.names:
            continue
        result = try_apart(name, kind)
        results.append(result)
        print(
            f"{name:24} {kind:8} {result.verdict:10} {'trees' if result.trees else '':6}"
            f"{result.seconds:5.1f} s  {result.why}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))
    if options.markdown:
        options.markdown.write_text(make_table(results), encoding="utf-8")
    return any(result.verdict == "wrong" for result in results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
