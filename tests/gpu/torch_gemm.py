#!/usr/bin/env python3
"""Matrix products of PyTorch on the shapes of gemm_gpu_bench.cpp, in the same way: the median of 20 launches after 3, on
random data and rotating operands.   torch_gemm.py DIR: writes DIR/torch_gemm.md and .jsonl."""
import json
import statistics
import sys

import torch

WARMUPS, LAUNCHES, SETS = 3, 20, 3
FORWARD = [(4096, 2112, 7168), (4096, 24576, 1536), (4096, 32768, 512), (4096, 7168, 16384), (4096, 4096, 7168),
           (4096, 7168, 2048), (32768, 4096, 7168), (32768, 7168, 2048)]
GROUPED = [(4, 8192, 4096, 7168), (4, 8192, 7168, 2048)]


def median_ms(launch):
    for i in range(WARMUPS):
        launch(i % SETS)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(LAUNCHES + 1)]
    events[0].record()
    for i in range(LAUNCHES):
        launch(i % SETS)
        events[i + 1].record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:]))


def fp8(rows, cols):
    return (torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * 100).clamp(-448, 448).to(torch.float8_e4m3fn)


def bf16(rows, cols):
    return torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16)


def scales(rows, cols):
    return torch.rand(rows, cols, device="cuda") * 0.01 + 0.005


def blockwise(m, n, k):
    """torch._scaled_mm with scales of 1x128 and 128x128, as torch lays them out: outer dimension contiguous."""
    sets = [(fp8(m, k), fp8(n, k).t()) for _ in range(SETS)]
    blocks = -(-k // 128)
    a = scales(blocks, m).t()
    b = scales(-(-n // 128), -(-blocks // 4) * 4)[:, :blocks].t()
    return lambda i: torch._scaled_mm(*sets[i], scale_a=a, scale_b=b, out_dtype=torch.bfloat16)


def rowwise(m, n, k):
    sets = [(fp8(m, k), fp8(n, k).t()) for _ in range(SETS)]
    a, b = scales(m, 1), scales(1, n)
    return lambda i: torch._scaled_mm(*sets[i], scale_a=a, scale_b=b, out_dtype=torch.bfloat16, use_fast_accum=True)


def plain(m, n, k):
    sets = [(bf16(m, k), bf16(n, k).t()) for _ in range(SETS)]
    return lambda i: torch.mm(*sets[i])


def ends_of(experts, rows):
    return torch.arange(1, experts + 1, device="cuda", dtype=torch.int32) * rows


def grouped_bf16(experts, rows, n, k):
    sets = [(bf16(experts * rows, k), bf16(experts * n, k).view(experts, n, k).transpose(1, 2)) for _ in range(SETS)]
    ends = ends_of(experts, rows)
    return lambda i: torch._grouped_mm(*sets[i], offs=ends)


def grouped_rowwise(experts, rows, n, k):
    sets = [(fp8(experts * rows, k), fp8(experts * n, k).view(experts, n, k).transpose(1, 2)) for _ in range(SETS)]
    ends, a, b = ends_of(experts, rows), scales(1, experts * rows)[0], scales(experts, n)
    return lambda i: torch._scaled_grouped_mm(*sets[i], a, b, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True)


def main():
    folder = sys.argv[1]
    with open(f"{folder}/torch_gemm.md", "w") as table, open(f"{folder}/torch_gemm.jsonl", "w") as lines:
        def say(text):
            print(text, flush=True)
            print(text, file=table, flush=True)

        say(f"\n### PyTorch {torch.__version__}, {torch.cuda.get_device_name()}\n\n| product | how | ms | TFLOP/s |\n|---|---|---|---|")

        def row(product, how, flops, make):
            try:
                ms = median_ms(make())
            except Exception as error:  # an op that this PyTorch lacks or refuses
                say(f"| {product} | {how} | failed | {type(error).__name__}: {str(error).splitlines()[0][:120]} |")
                return
            say(f"| {product} | {how} | {ms:.4f} | {flops / ms * 1e-9:.0f} |")
            print(json.dumps({"part": "torch", "product": product, "how": how, "ms": ms, "TFLOP/s": flops / ms * 1e-9}),
                  file=lines, flush=True)

        for m, n, k in FORWARD:
            for how, make in (("torch BF16 mm", plain), ("torch FP8 1x128 x 128x128", blockwise),
                              ("torch FP8 row-wise", rowwise)):
                row(f"{m} x {n} x {k}", how, 2 * m * n * k, lambda: make(m, n, k))
        for experts, rows, n, k in GROUPED:
            for how, make in (("torch BF16 grouped_mm", grouped_bf16), ("torch FP8 row-wise scaled_grouped_mm", grouped_rowwise)):
                row(f"{experts} x {rows}, {n} x {k}", how, 2 * experts * rows * n * k, lambda: make(experts, rows, n, k))


if __name__ == "__main__":
    main()
