#!/usr/bin/env python3
"""Does `transformers` read an exported folder as the model that Strait computes with?

    python check_export.py FOLDER --strait BINARY --text FILE [--greedy N] [--tolerance 1e-4]
    python check_export.py FOLDER [--logits FILE] [--ids "5 6 7" | --text FILE] [--greedy N] [--tolerance 1e-4]

FOLDER is what `strait export` wrote. With --strait, BINARY computes the logits of FILE's whole windows from that folder in
FP32, and, if the folder is FP32, N tokens after FILE's first 100 characters with the compressed cache: tokens of AutoTokenizer, logits and
generated tokens are compared. Without it, logits come from a safetensors file with `logits` [B, S, V] and, unless --ids or
--text say otherwise, `input_ids` [B, S]; `tokens` [B, >= S + 1] and `mtp_logits` [B, S, V], where present, check the MTP
module too (the expected.safetensors of a golden model has all of them), and --greedy only shows what transformers gives.

An FP8 folder is dequantised by this script, in FP32. Where the loader of transformers can do that, too, both must be the same
to the bit; `own_loader` in the output says so, or why it cannot (it needs `accelerate`, and whole blocks).

Prints one JSON line; exit code 1 if a main-model tensor is missing, has another shape, or is unknown, if the logits differ by
more than the tolerance, or if tokens differ.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, FineGrainedFP8Config, logging
from transformers.modeling_layers import MtpModel


def is_fp8(folder):
    return "quantization_config" in json.loads((pathlib.Path(folder) / "config.json").read_text())


def dequantise(folder, to):
    """The same folder with FP32 weights in one file. A weight without scales, or the reverse, raises KeyError."""
    to = pathlib.Path(to)
    config = json.loads((folder / "config.json").read_text())
    rows, cols = config.pop("quantization_config")["weight_block_size"]
    stored = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            stored |= {name: file.get_tensor(name) for name in file.keys()}
    codes = [name for name, tensor in stored.items() if tensor.dtype == torch.float8_e4m3fn]
    for name in codes:
        scales = stored.pop(name + "_scale_inv").repeat_interleave(rows, 0).repeat_interleave(cols, 1)
        stored[name] = stored[name].float() * scales[: stored[name].shape[0], : stored[name].shape[1]]
    left = [name for name in stored if name.endswith("_scale_inv")]
    if left or not codes:
        raise KeyError(f"scales without a weight in FP8: {left}" if left else "no weight is in FP8")
    save_file({name: tensor.float().contiguous() for name, tensor in stored.items()}, to / "model.safetensors")
    (to / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    return to


def partial_block(folder):
    """An FP8 weight that has several blocks in a direction of which the last is not whole, or None. transformers 5.23 divides a
    weight into as many equal blocks as there are scales: it refuses 368 rows with 3 scales, and reads 192 with 2 wrongly."""
    size = json.loads((folder / "config.json").read_text())["quantization_config"]["weight_block_size"]
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for scales in (name for name in file.keys() if name.endswith("_scale_inv")):
                weight = scales.removesuffix("_scale_inv")
                counts, shape = (file.get_slice(name).get_shape() for name in (scales, weight))
                if any(count > 1 and n != count * block for n, count, block in zip(shape, counts, size)):
                    return weight
    return None


def own_loader(folder, model):
    """How the FP8 folder as transformers dequantises it compares with `model`."""
    if partial := partial_block(folder):
        return f"cannot: a block of {partial} is not whole"
    try:
        theirs, report = load(folder, quantization_config=FineGrainedFP8Config(dequantize=True))
    except ImportError as error:
        return f"cannot: {error}"
    theirs = theirs.float().state_dict()  # what the folder has in BF16 has stayed so
    ours = model.state_dict()
    if any(report.values()) or theirs.keys() != ours.keys():
        return f"differs: {report}"
    differ = [name for name in ours if not torch.equal(theirs[name], ours[name])]
    return f"differs: {differ}" if differ else "the same to the bit"


def load(folder, **options):
    """The model in FP32 with eager layers, and what loading had to say about tensors."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        ignore_mismatched_sizes=True,  # reported below instead
        output_loading_info=True,
        **options,
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


def strait_logits(options, precision="fp32"):
    """What `strait eval` computes on the text: {"input_ids": [W, S], "logits": [W, S, V]}."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits.safetensors"
        command = [options.strait, "eval", "--model", options.folder, "--text", options.text, "--precision", precision]
        subprocess.run([*command, "--logits", path, "--json"], check=True, stdout=subprocess.DEVNULL)
        return load_file(path)


def same_tokens(options, given):
    """Whether AutoTokenizer cuts the text as the windows have it, after the token they begin with."""
    ids = AutoTokenizer.from_pretrained(options.folder).encode(options.text.read_text(), add_special_tokens=False)
    windows = given["input_ids"].flatten().tolist()
    return windows[1:] == ids[: len(windows) - 1]


def strait_greedy(options, start):
    """Prompt and continuation of `strait generate` as ids; ends at EOS."""
    prompt = options.text.read_text()[:100]
    command = [options.strait, "generate", "--model", options.folder, "--prompt", prompt, "--temperature", "0"]
    run = subprocess.run(
        [*command, "--max-tokens", str(options.greedy), "--json"], check=True, stdout=subprocess.PIPE
    )
    ids = AutoTokenizer.from_pretrained(options.folder).encode(prompt, add_special_tokens=False)
    return [start, *ids], json.loads(run.stdout)["ids"]


def worst(differences):
    return {
        "max_abs_diff": max(d["max_abs_diff"] for d in differences),
        "max_abs": max(d["max_abs"] for d in differences),
        "same_argmax": sum(d["same_argmax"] for d in differences) / len(differences),
    }


def check_with_strait(options):
    model, report = load(options.readable)
    report["mtp"] = load_mtp(model, options.readable) is not None
    given = strait_logits(options)
    report["same_tokens"] = same_tokens(options, given)
    theirs = [model(ids[None], use_cache=False).logits for ids in given["input_ids"].long()]
    report["windows"] = len(theirs)
    report["logits"] = worst([difference(ours[None], t) for ours, t in zip(given["logits"], theirs)])
    if is_fp8(options.folder):
        report["own_loader"] = own_loader(options.folder, model)
        logits = strait_logits(options, "fp8")["logits"]
        report["fp8_forward"] = worst([difference(ours[None], t) for ours, t in zip(logits, theirs)])
    stored = json.loads((options.folder / "config.json").read_text())
    if options.greedy and stored.get("torch_dtype", stored.get("dtype")) == "float32":
        prompt, ours = strait_greedy(options, int(given["input_ids"][0, 0]))
        theirs = greedy(model, torch.tensor([prompt]), len(ours))
        report["greedy_tokens"] = len(ours)
        report["same_greedy"] = ours == theirs
    return report


def check(options):
    if options.strait:
        return check_with_strait(options)
    model, report = load(options.readable)
    mtp = load_mtp(model, options.readable)
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
    parser.add_argument("--strait", help="the strait binary")
    parser.add_argument("--logits", type=pathlib.Path)
    parser.add_argument("--ids")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--greedy", type=int, default=0)
    options = parser.parse_args()
    if options.strait and not options.text:
        parser.error("--strait needs --text")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.no_grad(), tempfile.TemporaryDirectory() as plain:
        options.readable = dequantise(options.folder, plain) if is_fp8(options.folder) else options.folder
        report = check(options)
    compared = [report[key]["max_abs_diff"] for key in ("logits", "mtp_logits") if key in report]
    bad_tensors = report["missing"] or report["mismatched"] or report["unexpected"]
    same = all(report.get(key, True) for key in ("same_tokens", "same_greedy"))
    same = same and not report.get("own_loader", "").startswith("differs")
    report["ok"] = not bad_tensors and same and all(value <= options.tolerance for value in compared)
    print(json.dumps(report))
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
