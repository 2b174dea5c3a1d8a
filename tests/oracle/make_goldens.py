#!/usr/bin/env python3
"""Writes golden/<name>/: small models of `transformers` with their logits, losses, gradients and optimizer steps.

    python make_goldens.py [--out golden] [name...]

Everything expected is computed in float64 from the float32 weights of the folder, then stored as float32. The same run
in float32 must agree (see AGREEMENT), and no token may be close to another routing: both are checked here.
"""

import argparse
import copy
import dataclasses
import json
import pathlib
import shutil
import tempfile

import torch
from cases import CASES, Case
from reference import (
    Widen,
    adamw,
    checkpoint_names,
    routing_margin,
    run,
    selection_biases,
    trained_parameters,
    widen_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, logging
from transformers.modeling_layers import MtpModel

NUM_STEPS = 5
NUM_SEQUENCES = 2
MIN_MARGIN = 2e-4  # float32 noise in a score is near 1e-6
AGREEMENT = {"logits": 1e-5, "loss": 1e-5, "grad": 1e-5, "after5": 2e-5}  # max abs difference, float32 to float64


def build(case: Case, seed: int):
    """A float32 model with every tensor far from its neutral value, so that each path shows in the result."""
    torch.manual_seed(seed)
    config = case.config()
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", experts_implementation="eager")
    mtp = MtpModel(model, 1) if config.to_dict().get("num_nextn_predict_layers") else None
    if mtp is not None:
        mtp.config._attn_implementation = "eager"
        mtp.config._experts_implementation = "eager"
    roots = [model] + ([mtp.layers] if mtp is not None else [])
    with torch.no_grad():
        for name, parameter in (item for root in roots for item in root.named_parameters()):
            if parameter.ndim == 1:
                parameter.copy_(torch.empty_like(parameter).uniform_(0.5, 1.5))
            elif name.endswith("embed_tokens.weight"):
                parameter.normal_(0, 0.7)
            elif name.endswith("gate.weight"):
                parameter.normal_(0, 2.5 / parameter.shape[1] ** 0.5)
            else:
                parameter.normal_(0, 1.0 / parameter.shape[-1] ** 0.5)
        for bias in selection_biases(model, mtp).values():
            bias.copy_(torch.empty_like(bias).uniform_(*case.bias_range))
            for expert in case.never_selected:
                bias[expert] = -4.0
    tokens = torch.randint(0, config.vocab_size, (NUM_SEQUENCES, case.length + (2 if mtp is not None else 1)))
    return model.eval(), mtp.eval() if mtp is not None else None, tokens


def clone(model, mtp):
    """Copies of both that still share embedding, head and rotary angles."""
    return copy.deepcopy((model, mtp))


def gradients(model, mtp, outcome):
    for parameter in trained_parameters(model, mtp):
        parameter.grad = None
    outcome.total.backward()
    grads = {id(p): p.grad if p.grad is not None else torch.zeros_like(p) for p in trained_parameters(model, mtp)}
    return checkpoint_names(model, mtp, grads)


def expectations(model, mtp, tokens, case: Case):
    """All expected tensors in the dtype of `model`, and the smallest routing margin over the steps."""
    outcome = run(model, mtp, tokens, case.length, case.objective)
    expected = {"logits": outcome.logits, "loss": outcome.total, "main_loss": outcome.main}
    if mtp is not None:
        expected |= {"mtp_logits": outcome.mtp_logits, "mtp_loss": outcome.mtp}
    expected |= {f"balance_loss.{index}": loss for index, loss in outcome.balance.items()}
    for index, (gate, _, ids) in outcome.routes.items():
        expected[f"expert_counts.{index}"] = torch.bincount(ids.flatten(), minlength=gate.num_experts).int()
    expected |= {f"grad.{name}": grad for name, grad in gradients(model, mtp, outcome).items()}
    if case.objective.balance_alpha:
        plain = dataclasses.replace(case.objective, balance_by_bias=False)
        other = run(model, mtp, tokens, case.length, plain)
        expected["plain_topk.loss"] = other.total
        expected |= {f"plain_topk.balance_loss.{index}": loss for index, loss in other.balance.items()}
        expected |= {f"plain_topk.grad.{name}": grad for name, grad in gradients(model, mtp, other).items()}
    margin = optimize(model, mtp, tokens, case)
    after = checkpoint_names(model, mtp, {id(p): p for p in trained_parameters(model, mtp)})
    expected |= {f"after5.{name}": tensor for name, tensor in after.items()}
    return {name: tensor.detach() for name, tensor in expected.items()}, margin


def narrow(tensor):
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype).reshape(tensor.shape or (1,)).clone()


def optimize(model, mtp, tokens, case: Case):
    """NUM_STEPS of AdamW on the same batch; a parameter without gradient gets a zero one, so that it still decays."""
    optimizer = adamw(model, mtp)
    margin = float("inf")
    for _ in range(NUM_STEPS):
        for parameter in trained_parameters(model, mtp):
            parameter.grad = torch.zeros_like(parameter)
        outcome = run(model, mtp, tokens, case.length, case.objective)
        margin = min(margin, routing_margin(outcome.routes))
        outcome.total.backward()
        optimizer.step()
    return margin


def compare(wide, narrow_run):
    """Largest absolute difference per kind of tensor; counts must be equal."""
    worst = dict.fromkeys(AGREEMENT, 0.0)
    for name, tensor in wide.items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, narrow_run[name]), name
            continue
        kind = next((kind for kind in AGREEMENT if kind in name.split(".")[:2] or name.endswith(kind)), "loss")
        worst[kind] = max(worst[kind], float((tensor - narrow_run[name]).abs().max()))
    return worst


def save_folder(folder, model, mtp, case: Case):
    """config.json and model.safetensors as save_pretrained writes them, plus the MTP layer and the released wording."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    values = {id(p): p for p in trained_parameters(model, mtp)}
    named = checkpoint_names(model, mtp, values) | selection_biases(model, mtp)
    stored = load_file(folder / "model.safetensors")
    if model.config.tie_word_embeddings:
        named.pop("lm_head.weight", None)
    last = f"model.layers.{model.config.num_hidden_layers}."
    assert stored.keys() == {name for name in named if not name.startswith(last)}
    assert all(torch.equal(stored[name], named[name]) for name in stored)
    save_file({name: tensor.contiguous() for name, tensor in sorted(named.items())},
              folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    (folder / "config.released.json").write_text(json.dumps(case.released(), indent=2) + "\n")


def check_folder(folder, model, tokens, length, main_loss):
    """Both wordings of the config must load to the model that was saved; its own loss must be the stored one."""
    targets = tokens[:, 1 : length + 1].contiguous()
    with torch.no_grad():
        output = model(tokens[:, :length], labels=targets, shift_labels=targets)
    assert abs(output.loss - main_loss) < AGREEMENT["loss"], (folder, output.loss, main_loss)
    last = f"model.layers.{model.config.num_hidden_layers}."
    for config_name in ("config.json", "config.released.json"):
        with tempfile.TemporaryDirectory() as other:
            shutil.copy(folder / config_name, pathlib.Path(other) / "config.json")
            shutil.copy(folder / "model.safetensors", other)
            loaded, info = AutoModelForCausalLM.from_pretrained(
                other, attn_implementation="eager", experts_implementation="eager", output_loading_info=True
            )
        assert not info["missing_keys"] and not info["mismatched_keys"], info
        assert all(key.startswith(last) for key in info["unexpected_keys"]), info  # the MTP module
        with torch.no_grad():
            assert torch.equal(loaded(tokens[:, :length]).logits, output.logits), (folder, config_name)


def zero_masked_differences(routes):
    """Tokens whose selection would differ if excluded groups were masked with 0.0 instead of -inf."""
    count = 0
    for gate, logits, ids in routes.values():
        if not hasattr(gate, "e_score_correction_bias") or (gate.num_group or 1) == 1:
            continue
        biased = logits.sigmoid() + gate.e_score_correction_bias
        groups = biased.view(len(biased), gate.num_group, -1)
        kept = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter(
            1, groups.topk(2, -1).values.sum(-1).topk(gate.topk_group, -1).indices, True
        )
        zeroed = groups.masked_fill(~kept[..., None], 0.0).flatten(1).topk(gate.top_k, -1).indices
        count += int((zeroed.sort(-1).values != ids.sort(-1).values).any(-1).sum())
    return count


def wide_expectations(case, seed):
    """What a seed gives in float64, or None if a token is too close to another routing or an expert idles by chance."""
    model, mtp, tokens = build(case, seed)
    wide_model, wide_mtp = clone(model, mtp)
    with Widen():
        widen_model(wide_model)
        if wide_mtp is not None:
            wide_mtp.layers.double()
        with torch.no_grad():
            routes = run(wide_model, wide_mtp, tokens, case.length, case.objective).routes
        used = [ids.unique().numel() == gate.num_experts - len(case.never_selected) for gate, _, ids in routes.values()]
        if routing_margin(routes) < MIN_MARGIN or zero_masked_differences(routes) < case.min_zero_masked or not all(used):
            return None
        expected, margin = expectations(wide_model, wide_mtp, tokens, case)
    return expected if margin >= MIN_MARGIN else None


def make(case: Case, out: pathlib.Path):
    for seed in range(1, 100):
        expected = wide_expectations(case, seed)
        if expected is None:
            continue
        model, mtp, tokens = build(case, seed)
        worst = compare(expected, expectations(*clone(model, mtp), tokens, case)[0])
        for kind in ("logits", "loss", "grad"):
            assert worst[kind] <= AGREEMENT[kind], (case.name, worst)
        if worst["after5"] <= AGREEMENT["after5"]:  # else AdamW divides a gradient of noise by itself somewhere
            break
    else:
        raise RuntimeError(f"{case.name}: no seed is insensitive to float32 noise")

    folder = out / case.name
    save_folder(folder, model, mtp, case)
    check_folder(folder, model, tokens, case.length, float(expected["main_loss"]))
    expected = {name: narrow(tensor) for name, tensor in expected.items()}
    expected["tokens"] = tokens.int()
    expected["input_ids"] = tokens[:, : case.length].int().contiguous()
    expected["targets"] = tokens[:, 1 : case.length + 1].int().contiguous()
    if mtp is not None:
        expected["mtp_targets"] = tokens[:, 2 : case.length + 2].int().contiguous()
    save_file(expected, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)
    report(case, seed, model, mtp, expected, worst, folder)


def report(case, seed, model, mtp, expected, worst, folder):
    unused = sorted(n for n, t in expected.items() if n.startswith("grad.") and not t.any())
    idle = {n: t for n, t in expected.items() if n.startswith("expert_counts.")}
    for name in unused:  # only an expert without tokens may have a gradient of zeros
        layer, expert = name.split(".")[3], name.split(".")[6] if ".experts." in name else None
        assert expert is not None and idle[f"expert_counts.{layer}"][int(expert)] == 0, name
    print(json.dumps({
        "name": case.name, "seed": seed, "parameters": sum(p.numel() for p in trained_parameters(model, mtp)),
        "loss": float(expected["loss"]), "bytes": sum(f.stat().st_size for f in folder.iterdir()),
        "tensors_with_zero_gradient": len(unused), "float32_differs_by": worst,
        "counts": {n: t.tolist() for n, t in idle.items()},
    }))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "golden")
    parser.add_argument("names", nargs="*", choices=[[], *CASES], metavar="name")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    for name in options.names or CASES:
        make(CASES[name], options.out)


if __name__ == "__main__":
    main()
