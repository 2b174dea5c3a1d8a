"""Compares Strait's FP8 with torch's: all codes, numbers by the ten million, and the published quantisers bit by bit;
and its E5M6, of which there is no other, with exact fractions.

  cmake --build --preset release --target fp8_tool
  python compare.py build/release/tests/core/fp8_tool [--only e4m3,e5m6] [--millions 12] [--seed 1]
  python compare.py build/release/tests/core/fp8_tool --only accumulator --mma-sim FOLDER

E4M3 (needs numpy and torch). Numbers: all magnitudes up to 464, where torch and Strait agree on what rounds to 448
(above, Strait saturates and older versions of torch give NaN), every halfway point with its neighbours, and denormals.
Quantisers: scale = largest magnitude, at least 1e-4, / 448; code = x / scale, both true divisions, in tiles of 1 x 128
and 128 x 128.

E5M6 (needs nothing). Numbers: as many, of all FP32 bit patterns and of the format's range, every code, every halfway
point with its neighbours, NaN and infinities. Quantiser: scale = the least power of two, from 2^-126 on, that is no
smaller than largest magnitude / 129,024; code = x / scale, nearest, ties to even.

Accumulator (needs torch): the model of Hopper's against github.com/microsoft/MMA-Sim (arXiv 2511.10909), cloned to
FOLDER; tried at commit c785138.

Exit code 1 if any differs.
"""

import argparse
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool")
    parser.add_argument("--only", default="e4m3,e5m6")
    parser.add_argument("--millions", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mma-sim")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in ("e4m3", "e5m6", "accumulator")]:
        parser.error(f"--only: '{unknown[0]}' is neither of e4m3, e5m6, accumulator")
    if "accumulator" in names and not options.mma_sim:
        parser.error("--only accumulator: needs --mma-sim")
    differ = 0
    for name in names:
        against = options.mma_sim if name == "accumulator" else options.millions
        differ += __import__(name).check(options.tool, against, options.seed)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
