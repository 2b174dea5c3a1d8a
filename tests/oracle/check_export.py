#!/usr/bin/env python3
"""Does `transformers` read an exported folder as the model that Strait computed with?

    python check_export.py FOLDER [--logits FILE] [--ids "5 6 7" | --text FILE] [--tolerance 1e-4] [--greedy N]

FOLDER is what `strait export` wrote. FILE is a safetensors file with `logits` [B, S, V] and, unless --ids or --text say
otherwise, `input_ids` [B, S]; `tokens` [B, >= S + 1] and `mtp_logits` [B, S, V], where present, check the MTP module too.
The expected.safetensors of a golden model has all of them. Prints one JSON line; exit code 1 if a main-model tensor is missing, has another
shape, or is unknown, or if the logits differ by more than the tolerance.
"""

import argparse
import json
import pathlib
import re
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, logging
from transformers.modeling_layers import MtpModel


def load(folder):
    """The model in FP32 with eager layers, and what loading had to say about tensors."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        ignore_mismatched_sizes=True,  # reported below instead
        output_loading_info=True,
    )
    model.eval()
    last = model.config.num_hidden_layers
    mtp_names = [name for name in info["unexpected_keys"] if name.startswith(f"model.layers.{last}.")]
    return model, {
        "missing": sorted(info["missing_keys"]),
        "mismatched": sorted(str(key) for key in info["mismatched_keys"]),
        "unexpected": sorted(set(info["unexpected_keys"]) - set(mtp_names)),
    }


def stored_tensors(folder, prefix):
    """{name without prefix: tensor} of every safetensors file in the folder."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found |= {n.removeprefix(prefix): file.get_tensor(n).float() for n in file.keys() if n.startswith(prefix)}
    return found


def load_mtp(model, folder):
    """The MTP module of layer num_hidden_layers, or None; missing tensors raise KeyError, left-over ones ValueError."""
    stored = stored_tensors(folder, f"model.layers.{model.config.num_hidden_layers}.")
    for shared in ("embed_tokens.weight", "shared_head.head.weight"):
        stored.pop(shared, None)
    if not stored:
        return None
    model.config.num_nextn_predict_layers = 1
    mtp = MtpModel(model, 1).eval()
    for config in (mtp.config, *(m.config for m in mtp.modules() if hasattr(m, "config"))):
        config._attn_implementation, config._experts_implementation = "eager", "eager"
    layer = mtp.layers[0]
    values = {}
    for name in layer.state_dict():
        stem = re.sub(r"^mtp_block\.", "", name).replace("post_norm", "shared_head.norm")
        values[name] = take(stored, stem, model.config.n_routed_experts)
    if stored:
        raise ValueError(f"unknown MTP tensors: {sorted(stored)}")
    layer.load_state_dict(values)
    return mtp


def take(stored, stem, num_experts):
    """Removes one tensor from `stored`; a stack of experts is put together from its parts."""
    if not re.search(r"\.experts\.(gate_up_proj|down_proj)$", stem):
        return stored.pop(stem)
    base, kind = stem.rsplit(".", 1)
    parts = ("gate_proj", "up_proj") if kind == "gate_up_proj" else ("down_proj",)
    return torch.stack(
        [torch.cat([stored.pop(f"{base}.{e}.{part}.weight") for part in parts]) for e in range(num_experts)]
    )


def input_ids(options, given):
    if options.ids:
        return torch.tensor([[int(word) for word in options.ids.split()]])
    if options.text:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(options.folder / "tokenizer.json"))
        return torch.tensor([tokenizer.encode(options.text.read_text(), add_special_tokens=False).ids])
    if "input_ids" in given:
        return given["input_ids"].long()
    return None


def difference(ours, theirs):
    if ours.shape != theirs.shape:
        raise ValueError(f"logits have shape {list(ours.shape)}, transformers gives {list(theirs.shape)}")
    agree = (ours.argmax(-1) == theirs.argmax(-1)).float().mean()
    return {"max_abs_diff": float((ours - theirs).abs().max()), "max_abs": float(theirs.abs().max()),
            "same_argmax": float(agree)}  # fmt: skip


def check(options):
    model, report = load(options.folder)
    mtp = load_mtp(model, options.folder)
    report["mtp"] = mtp is not None
    given = load_file(options.logits) if options.logits else {}
    ids = input_ids(options, given)
    if ids is None:
        return report
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden)
    if "logits" in given:
        report["logits"] = difference(given["logits"].float().view(-1, *given["logits"].shape[-2:]), logits)
    if mtp is not None and "mtp_logits" in given:
        length = ids.shape[1]
        positions = torch.arange(1, length + 1)[None]
        state = mtp.forward_layer(0, hidden, positions, None, input_ids=given["tokens"][:, 1 : length + 1].long())
        report["mtp_logits"] = difference(given["mtp_logits"].float(), model.lm_head(state))
    if options.greedy:
        report["greedy"] = greedy(model, ids, options.greedy)
    return report


def greedy(model, ids, count):
    """The ids that follow the first sequence, each the largest logit; the whole prefix is run again every time."""
    sequence = ids[:1]
    for _ in range(count):
        following = model(sequence, use_cache=False).logits[:, -1:].argmax(-1)
        sequence = torch.cat([sequence, following], dim=1)
    return sequence[0, ids.shape[1] :].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--logits", type=pathlib.Path)
    parser.add_argument("--ids")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--greedy", type=int, default=0)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.no_grad():
        report = check(options)
    compared = [report[key]["max_abs_diff"] for key in ("logits", "mtp_logits") if key in report]
    bad_tensors = report["missing"] or report["mismatched"] or report["unexpected"]
    report["ok"] = not bad_tensors and all(value <= options.tolerance for value in compared)
    print(json.dumps(report))
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
