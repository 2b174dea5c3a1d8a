#!/usr/bin/env python3
"""Training speed of a small DeepSeek-V3 in PyTorch + transformers on a CPU: the yardstick for `strait train`.

    python bench.py --corpus DIR [--steps 7] [--threads 2] [--only fp32,compiled] [--jemalloc LIB] [--small]

Every mode runs in a process of its own and prints one JSON line. `strait train recipes/bench.yaml` runs first and last, on
the same tokens of the same corpus (`strait data prepare --vocab 8192`); the last lines name the fastest modes and the ratio.
A step is forward, cross-entropy, backward and AdamW; tokens/s is that of the median step.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

# The model that both sides train; `recipes/` on Strait's side must say the same.
SIZES = dict(
    vocab_size=8192, hidden_size=512, num_hidden_layers=8, first_k_dense_replace=1, intermediate_size=1280,
    moe_intermediate_size=256, n_routed_experts=32, num_experts_per_tok=4, n_shared_experts=1, n_group=1, topk_group=1,
    norm_topk_prob=True, routed_scaling_factor=2.5, num_attention_heads=8, num_key_value_heads=8, q_lora_rank=256,
    kv_lora_rank=128, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, max_position_embeddings=1024,
    initializer_range=0.02, num_nextn_predict_layers=0,
)  # fmt: skip
BATCH, LENGTH = 4, 1024
SMALL = dict(vocab_size=512, hidden_size=64, num_hidden_layers=2, intermediate_size=96, moe_intermediate_size=32)

DTYPES = ("fp32", "bf16", "autocast")  # autocast: FP32 parameters and AdamW, bf16 matmuls
COMPILE = ("eager", "compiled")
EXPERTS = ("loop", "grouped_mm")
ATTENTION = ("sdpa", "eager_attention")
# Compiling the loop over experts is left out: its sizes follow the data, so it recompiles again and again and never wins.
MODES = [
    ",".join(mode)
    for mode in itertools.product(DTYPES, COMPILE, EXPERTS, ATTENTION)
    if mode[1:3] != ("compiled", "loop")
]


def environment(options):
    """A fair rival: no forced BLAS kernel, and an allocator that keeps its pages between steps."""
    values = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY"):
        values.pop(name, None)
    values["OMP_NUM_THREADS"] = values["MKL_NUM_THREADS"] = str(options.threads)
    values["TOKENIZERS_PARALLELISM"] = "false"
    values["CUDA_VISIBLE_DEVICES"] = ""
    if options.jemalloc:
        values["LD_PRELOAD"] = options.jemalloc
        values["MALLOC_CONF"] = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
    else:
        values["MALLOC_MMAP_THRESHOLD_"] = values["MALLOC_TRIM_THRESHOLD_"] = str(1 << 36)
        values["MALLOC_TOP_PAD_"] = str(64 << 20)
    return values


def build(mode, sizes):
    import torch
    from transformers import AutoModelForCausalLM, DeepseekV3Config, logging

    logging.set_verbosity_error()
    dtype, compiled, experts, attention = mode.split(",")
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(
        DeepseekV3Config(**sizes, use_cache=False),
        dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
        attn_implementation="sdpa" if attention == "sdpa" else "eager",
        experts_implementation="eager" if experts == "loop" else experts,
    )
    model.train()
    return model, torch.compile(model) if compiled == "compiled" else model


def train_steps(mode, options):
    """Seconds of each timed step, and the last loss."""
    import torch

    torch.set_num_threads(options.threads)
    sizes = SIZES | (SMALL if options.small else {})
    batch, length = (2, 64) if options.small else (BATCH, LENGTH)
    model, step_model = build(mode, sizes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    steps = options.warmup + options.steps
    windows = read_windows(options.corpus, steps * batch, length).clamp_(max=sizes["vocab_size"] - 1)
    seconds = []
    for step in range(steps):
        window = windows[step * batch : (step + 1) * batch]
        inputs, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=mode.startswith("autocast")):
            logits = step_model(input_ids=inputs).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in model.parameters())
    return seconds[options.warmup :], float(loss.detach()), batch * length, parameters


def read_windows(corpus, count, length):
    """The first `count` windows of the corpus, each with its last target: [count, length + 1]."""
    import h5py
    import torch

    with h5py.File(os.path.join(corpus, "corpus.h5")) as file:
        tokens = torch.from_numpy(file["train/tokens"][: count * length + 1].astype("int64"))
    return torch.stack([tokens[i * length : i * length + length + 1] for i in range(count)])


def run_strait(precision, options):
    """One run of the binary on the corpus; the same report as a mode of PyTorch."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
    steps = options.warmup + options.steps
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.strait or os.path.join(root, "build/release/strait"), "train", os.path.join(root, "recipes/bench.yaml"),
            "--json", "--run", folder, "--set", f"data.corpus={options.corpus}", "--set", f"train.precision={precision}",
            "--set", f"train.steps={steps + 1}", "--set", f"train.threads={options.threads}", "--set", "schedule.warmup_steps=1",
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wall = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"strait failed ({done.returncode}): {done.stderr.strip()}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    # A step's figures are reported when it is committed, in the next one; the last has no next and is left out.
    seconds = [line["seconds"] for line in lines if line["kind"] == "step"][options.warmup : -1]
    tokens = lines[0]["tokens"]
    memory = next(line for line in lines if line["kind"] == "memory")
    result = {
        "mode": f"strait,{precision}", "tokens_per_s": round(tokens / statistics.median(seconds), 1),
        "median_step_s": round(statistics.median(seconds), 4), "steps_s": [round(value, 4) for value in seconds],
        "tokens_per_step": tokens, "model_gflops": round(lines[0]["model_flops_per_second"] * lines[0]["seconds"] / 1e9, 1),
        "threads": options.threads, "load_1min": round(os.getloadavg()[0], 2), "run_s": round(wall, 1),
        "peak_rss_mib": memory["rss_peak_bytes"] >> 20,
    }  # fmt: skip
    print(json.dumps(result), flush=True)
    return result


def run_mode(mode, options):
    import torch
    import transformers

    seconds, loss, tokens, parameters = train_steps(mode, options)
    median = statistics.median(seconds)
    print(json.dumps({
        "mode": mode, "tokens_per_s": round(tokens / median, 1), "median_step_s": round(median, 4),
        "steps_s": [round(value, 4) for value in seconds], "tokens_per_step": tokens, "parameters": parameters,
        "threads": options.threads, "load_1min": round(os.getloadavg()[0], 2), "loss": round(loss, 4),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "torch": torch.__version__, "transformers": transformers.__version__,
    }), flush=True)  # fmt: skip


def run_all(options):
    """Each mode in a process of its own; a mode that fails is reported as such and does not stop the others."""
    wanted = options.only.split(",") if options.only else []
    results = []
    ours = [] if options.small else [run_strait(precision, options) for precision in ("bf16", "fp32")]
    for mode in MODES:
        if not all(word in mode.split(",") for word in wanted):
            continue
        command = [sys.executable, os.path.abspath(__file__), "--mode", mode, *forwarded(options)]
        done = subprocess.run(command, env=environment(options), capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0 and lines:
            results.append(json.loads(lines[-1]))
            print(lines[-1], flush=True)
        else:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(json.dumps({"mode": mode, "failed": reason, "exit_code": done.returncode}), flush=True)
    if not options.small:
        ours += [run_strait(precision, options) for precision in ("fp32", "bf16")]
    for dtype in DTYPES:
        group = [result for result in results if result["mode"].startswith(dtype + ",")]
        if group:
            best = max(group, key=lambda result: result["tokens_per_s"])
            print(json.dumps({"best": dtype, "mode": best["mode"], "tokens_per_s": best["tokens_per_s"]}))
    for precision in ("bf16", "fp32"):
        rivals = [r for r in results if precision == "bf16" or r["mode"].startswith("fp32")]
        own = [r["tokens_per_s"] for r in ours if r["mode"].endswith(precision)]
        if rivals and own:
            best = max(rivals, key=lambda result: result["tokens_per_s"])
            print(json.dumps({"strait": precision, "tokens_per_s": own, "against": best["mode"],
                              "ratio": round(statistics.mean(own) / best["tokens_per_s"], 2)}))  # fmt: skip
    return 0 if results else 1


def forwarded(options):
    words = ["--steps", str(options.steps), "--warmup", str(options.warmup), "--threads", str(options.threads)]
    words += ["--corpus", options.corpus]
    return words + (["--small"] if options.small else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=7, help="timed steps per mode")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them; compiling happens in the first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="comma-separated words that a mode must have, e.g. bf16,grouped_mm")
    parser.add_argument("--corpus", required=True, help="folder made by `strait data prepare --vocab 8192`")
    parser.add_argument("--strait", help="the binary (default: build/release/strait of this repository)")
    parser.add_argument("--jemalloc", help="path of libjemalloc.so to preload instead of tuning glibc's malloc")
    parser.add_argument("--small", action="store_true", help="a toy model: does every mode run at all?")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        run_mode(options.mode, options)
        return 0
    return run_all(options)


if __name__ == "__main__":
    sys.exit(main())
