"""Speed of PyTorch's causal attention on the shapes of attention_gpu_bench: torch_attention.py DIR"""
import json
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def median_ms(launch, launches=20):
    for _ in range(3):
        launch()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(launches + 1)]
    events[0].record()
    for event in events[1:]:
        launch()
        event.record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) for a, b in zip(events, events[1:]))[launches // 2]


def main():
    lines = [f"\n### PyTorch {torch.__version__} attention, {torch.cuda.get_device_name()}\n",
             "| what | how | figure | unit |", "|---|---|---|---|"]
    records = []
    for batch, heads, length in ((1, 128, 4096), (1, 128, 2048), (2, 16, 4096)):
        qk, vd = 192, 128
        q, k = (torch.randn(batch, length, heads, qk, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
                for _ in range(2))
        v = torch.randn(batch, length, heads, vd, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
        d_o = torch.randn(batch, length, heads, vd, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
        flops = batch * heads * length * length
        for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    forward = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
                    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                    backward = median_ms(lambda: torch.autograd.grad(out, (q, k, v), d_o, retain_graph=True))
            except RuntimeError as error:
                print(f"{backend}: {str(error)[:150]}")
                continue
            what = f"b{batch} h{heads} s{length} {qk}/{vd}"
            for name, ms, work in (("forward", forward, qk + vd), ("backward", backward, 3 * qk + 2 * vd)):
                tflops = flops * work / ms / 1e9
                lines.append(f"| {what} {name} | {backend.name.lower()} | {tflops:.4g} | TFLOP/s |")
                records.append({"part": "torch_attention", "what": f"{what} {name}", "how": backend.name.lower(),
                                "figure": round(tflops, 1), "unit": "TFLOP/s"})
    print("\n".join(lines))
    with open(sys.argv[1] + "/torch_attention.md", "w") as file:
        file.write("\n".join(lines) + "\n")
    with open(sys.argv[1] + "/torch_attention.jsonl", "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


if __name__ == "__main__":
    main()
