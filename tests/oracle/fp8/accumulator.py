"""The model of Hopper's accumulator beside MMA-Sim, whose authors compared it with GPUs. See compare.py."""

import array
import os
import random
import sys

import torch
from tool import run

SUMS = 20_000
BITS = 13  # MMA-Sim's of FP8 on Hopper, after the point and in the register


def random_sums(chance):
    """Codes of 32 pairs of factors, up to a magnitude and of denormals too, and an accumulator of some size near."""
    for _ in range(SUMS):
        most = chance.choices((0x7E, 0x50, 0x38, 0x10, 0x0A), k=2)
        codes = [[chance.randrange(bound + 1) | chance.choice((0, 128)) for _ in range(32)] for bound in most]
        register = chance.choice((-1, 1)) * (1 + chance.randrange(2**BITS) / 2**BITS) * 2.0 ** chance.randrange(-20, 25)
        yield *codes, chance.choice((register, register, 0.0))


def check(tool, folder, seed):
    """Prints what was compared; how many results differ. `folder`: a clone of github.com/microsoft/MMA-Sim."""
    sys.path.insert(0, os.path.join(folder, "mmasim", "simulator"))
    from arithmetic import nv_fused_dot_add

    given, theirs = array.array("f"), []
    for *codes, register in random_sums(random.Random(seed)):
        a, b = (torch.tensor(of_factor, dtype=torch.uint8).view(torch.float8_e4m3fn) for of_factor in codes)
        given.extend(a.float().tolist() + b.float().tolist() + [register])
        theirs.append(nv_fused_dot_add(a, b, torch.tensor(register), BITS, f"f32_e8m{BITS}").item())
    ours = array.array("f", run(tool, "accumulate", data=given.tobytes()))
    differ = abs(len(ours) - len(theirs)) + sum(x != y for x, y in zip(ours, theirs))
    print(f"{len(theirs):,} sums of 32 products and an accumulator: {differ} differ from MMA-Sim")
    return differ
