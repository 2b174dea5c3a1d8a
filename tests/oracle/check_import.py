#!/usr/bin/env python3
"""Does Strait read what `transformers` saves as the model it is?

    python check_import.py --strait BINARY --text FILE [--tolerance 1e-4]

Makes a small DeepSeek-V3 of random weights and a tokenizer for FILE, saves both with `save_pretrained`, in FP32 and in BF16,
and compares, for each folder: the loss per token that `strait eval --precision fp32` finds on FILE with the loss of
transformers in FP32 on the same windows, the logits, and the tensors of `strait export` in the folder's own format, which
must be the folder's to the bit. Prints one JSON line; exit code 1 if anything differs by more than the tolerance.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from check_export import load, stored_tensors
from safetensors.torch import load_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, PreTrainedTokenizerFast, logging

WINDOW = 96
CONFIG = dict(
    vocab_size=320, hidden_size=64, num_hidden_layers=3, first_k_dense_replace=1, num_attention_heads=4,
    num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
    intermediate_size=96, moe_intermediate_size=32, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3,
    n_group=4, topk_group=2, routed_scaling_factor=2.5, max_position_embeddings=256, initializer_range=0.1,
)  # fmt: skip


def run(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def make_tokenizer(options, made):
    """A byte-level tokenizer of FILE's words, as transformers has it."""
    text, parts = options.text.read_text(), [made / "first.txt", made / "second.txt"]  # a corpus has two documents at least
    for part, half in zip(parts, (text[: len(text) // 2], text[len(text) // 2 :])):
        part.write_text(half)
    run(options.strait, "data", "prepare", "--out", made / "corpus", "--vocab", CONFIG["vocab_size"], "--json", *parts)
    eos = json.loads((made / "corpus" / "tokenizer_config.json").read_text())["eos_token"]
    return PreTrainedTokenizerFast(tokenizer_file=str(made / "corpus" / "tokenizer.json"), eos_token=eos)


def make_model(eos):
    torch.manual_seed(7)
    model = DeepseekV3ForCausalLM(DeepseekV3Config(**CONFIG, eos_token_id=eos, bos_token_id=None))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.2 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer += 0.2 * torch.randn_like(buffer)
    return model


def loss_of(model, stream):
    """Mean over all targets of `stream`, cut into windows as `strait eval` does."""
    total = 0.0
    for first in range(0, len(stream) - 1, WINDOW):
        window = torch.tensor(stream[first : first + WINDOW + 1])
        logits = model(window[None, :-1], use_cache=False).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits.double(), window[1:], reduction="sum"))
    return total / (len(stream) - 1)


def check_folder(options, folder, dtype, made):
    model, report = load(folder)
    logits_file = made / f"{dtype}.safetensors"
    found = run(options.strait, "eval", "--model", folder, "--text", options.text, "--precision", "fp32", "--sequence-length",
                WINDOW, "--logits", logits_file, "--json")  # fmt: skip
    given = load_file(logits_file)
    ids = PreTrainedTokenizerFast.from_pretrained(folder).encode(options.text.read_text(), add_special_tokens=False)
    stream = [int(given["input_ids"][0, 0]), *ids]
    theirs = torch.cat([model(window[None].long(), use_cache=False).logits for window in given["input_ids"]])
    loss = loss_of(model, stream)
    run(options.strait, "export", "--from", folder, "--to", made / f"{dtype}_out", "--dtype", dtype, "--json")
    before, after = stored_tensors(folder, ""), stored_tensors(made / f"{dtype}_out", "")
    report["same_tensors"] = before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
    report["same_tokens"] = found["tokens"] == len(ids)
    report["loss"], report["loss_diff"] = loss, abs(found["nll"] - loss)
    report["logits_diff"] = float((given["logits"] - theirs).abs().max())
    amiss = report["missing"] or report["mismatched"] or report["unexpected"]
    close = max(report["loss_diff"], report["logits_diff"]) <= options.tolerance
    report["ok"] = not amiss and close and report["same_tensors"] and report["same_tokens"]
    return report


def check(options):
    report = {}
    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)
        tokenizer = make_tokenizer(options, made)
        model = make_model(tokenizer.eos_token_id)
        for dtype, width in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            folder = made / dtype
            model.to(width).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            report[dtype] = check_folder(options, folder, dtype, made)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strait", required=True, help="the strait binary")
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with torch.no_grad():
        report = check(options)
    report["ok"] = all(folder["ok"] for folder in report.values())
    print(json.dumps(report))
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
