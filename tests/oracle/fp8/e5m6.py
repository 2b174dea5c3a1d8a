"""E5M6 beside exact fractions. See compare.py."""

import array
import bisect
import random
import sys
from fractions import Fraction

from tool import run

EXPONENT_BITS, MANTISSA_BITS, BIAS = 5, 6, 15
SIGN, NAN = 1 << 11, (1 << 11) - 1  # as codes
UNIT = 300  # comparisons are of whole numbers of 2^-300, of which all FP32 over all scales are


def number(code):
    field, mantissa = code >> MANTISSA_BITS & 31, Fraction(code & 63, 64)
    magnitude = mantissa * Fraction(2) ** (1 - BIAS) if field == 0 else (1 + mantissa) * Fraction(2) ** (field - BIAS)
    return -magnitude if code & SIGN else magnitude


NUMBERS = [number(code) for code in range(NAN)]
MOST = NUMBERS[-1]
HALVES = [(low + high) / 2 for low, high in zip(NUMBERS, NUMBERS[1:])]
HALVES_IN_UNITS = [int(half * 2**UNIT) for half in HALVES]


def code_of(value, exponent=0):
    """Of value / 2^exponent, nearest, ties to even. REQUIRES: a finite FP32; exponent <= 111."""
    above, below = abs(value).as_integer_ratio()
    units = above * 2 ** (UNIT - exponent) // below  # exact: below <= 2^149
    code = bisect.bisect_left(HALVES_IN_UNITS, units)
    if code < len(HALVES_IN_UNITS) and units == HALVES_IN_UNITS[code] and code % 2 == 1:
        code += 1
    return code | (SIGN if str(value)[0] == "-" else 0)


def floats(bits):
    """FP32 of bit patterns."""
    return array.array("f", array.array("I", bits).tobytes())


def pattern(value):
    return array.array("I", array.array("f", [value]).tobytes())[0]


def edges():
    """Bit patterns of codes, halves, their neighbours, and every power of two of FP32; of both signs."""
    patterns = {pattern(float(value)) for value in NUMBERS + HALVES + [2 * MOST]}
    patterns |= {bits << 23 for bits in range(255)} | {1 << bit for bit in range(23)}
    patterns |= {bits + step for bits in patterns for step in (-1, 1) if bits + step >= 0}
    patterns |= {0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF}
    return sorted(patterns) + [bits | 1 << 31 for bits in sorted(patterns)]


def check_codes(tool):
    ours = array.array("f", run(tool, "decode-e5m6"))
    differ = abs(len(ours) - 2 * SIGN)
    for code, value in enumerate(ours):
        if code % SIGN == NAN:
            differ += value == value
        else:
            differ += Fraction(value) != number(code) or (str(value)[0] == "-") != (code >= SIGN)
    print(f"4,096 codes of E5M6: {differ} differ")
    return differ


def check_numbers(tool, millions, chance):
    """A million at a time; the first has the edges too."""
    differ = count = 0
    for part in range(millions):
        bits = edges() if part == 0 else []
        bits += array.array("I", chance.randbytes(2_000_000))  # all patterns alike
        bits += [chance.choice((0, 1 << 31)) | chance.randrange(102 << 23, 146 << 23) for _ in range(500_000)]
        values = floats(bits)
        ours = array.array("H", run(tool, "encode-e5m6", data=values.tobytes()))
        differ += abs(len(ours) - len(values))
        for code, value in zip(ours, values):
            if value != value:
                differ += code != NAN
            elif value in (float("inf"), -float("inf")):
                differ += code != (NAN - 1 | (SIGN if value < 0 else 0))
            else:
                differ += code != code_of(value)
        count += len(values)
    print(f"{count:,} numbers in E5M6: {differ} differ")
    return differ


def scale_exponent(tile):
    """log2 of the scale."""
    least = Fraction(max(abs(value) for value in tile)) / MOST
    if least <= Fraction(1, 2**150):
        return 0  # nothing is left of it in FP32: counts as a tile of zeros
    exponent = -126
    while Fraction(2) ** exponent < least:
        exponent += 1
    return exponent


def random_matrix(rows, cols, chance):
    values = array.array("f")
    for row in range(rows):
        spread = chance.choice((1, 20, 60))
        middle = chance.uniform(-140, 120 - spread)
        for _ in range(cols):
            size = 0 if row % 7 == 3 else 2.0 ** min(127, middle + chance.uniform(0, spread))
            values.append(size * chance.choice((-1, 1)))
    return values


def matrix_of_halves(rows, cols, chance):
    """Tiles whose largest is at the edge of a scale, over halves and their neighbours in the units of that scale."""
    bits = array.array("I")
    for row in range(rows):
        exponent = chance.randrange(-60, 60)
        for col in range(cols):
            value = MOST if col % 128 == 0 else chance.choice(HALVES)
            bits.append(pattern(float(value * Fraction(2) ** exponent)) + chance.randrange(-1, 2))
            bits[-1] |= chance.choice((0, 1 << 31))
    return floats(bits)


def check_quantiser(tool, name, values, rows, cols):
    data = run(tool, "e5m6", rows, cols, data=values.tobytes())
    width = 3 * -(-cols // 2)
    scales = array.array("f", data[rows * width:])
    differ = abs(len(scales) - rows * -(-cols // 128))
    for row in range(rows):
        packed = data[row * width:(row + 1) * width]
        for tile, begin in enumerate(range(0, cols, 128)):
            of_tile = values[row * cols + begin:row * cols + min(begin + 128, cols)]
            exponent = scale_exponent(of_tile)
            differ += Fraction(scales[row * -(-cols // 128) + tile]) != Fraction(2) ** exponent
            for col, value in enumerate(of_tile, begin):
                pair = int.from_bytes(packed[col // 2 * 3:col // 2 * 3 + 3], "little")
                differ += (pair >> 12 * (col % 2) & 4095) != code_of(value, exponent)
    print(f"E5M6 of {rows} x {cols}, {name}: {differ} codes and scales differ")
    return differ


def check(tool, millions, seed):
    """Prints what was compared; how many results differ."""
    assert sys.byteorder == "little"
    chance = random.Random(seed)
    differ = check_codes(tool) + check_numbers(tool, millions, chance)
    for rows, cols in ((256, 512), (130, 201), (1, 7168), (65, 129)):
        differ += check_quantiser(tool, "all sizes", random_matrix(rows, cols, chance), rows, cols)
        differ += check_quantiser(tool, "halves", matrix_of_halves(rows, cols, chance), rows, cols)
    return differ
