"""E4M3 beside torch's float8_e4m3fn, and the quantisers beside DeepSeek's, by torch. See compare.py."""

import numpy
import torch

from tool import run


def edges():
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    finite = numpy.sort(codes[torch.isfinite(codes)].numpy().astype(numpy.float32))
    half = ((finite[1:].astype(numpy.float64) + finite[:-1]) / 2).astype(numpy.float32)
    near = [numpy.nextafter(x, numpy.float32(y)) for x in (finite, half) for y in (-1000, 1000)]
    tiny = numpy.float32(2.0) ** numpy.arange(-149, -5, dtype=numpy.float32)
    all_edges = numpy.concatenate([finite, half, *near, tiny, -tiny, numpy.float32([0.0, -0.0, 464.0, -464.0])])
    return all_edges[numpy.abs(all_edges) <= 464]


def numbers(millions, random):
    count = millions * 1_000_000 // 3
    bits = random.integers(0, 2**32, count, dtype=numpy.uint32).view(numpy.float32)
    spread = numpy.exp2(random.uniform(-12, 9, count)).astype(numpy.float32) * random.choice([-1, 1], count)
    values = numpy.concatenate(
        [edges(), bits, spread.astype(numpy.float32), random.normal(0, 60, count).astype(numpy.float32)]
    )
    return values[numpy.abs(values) <= 464]  # NaN leaves too


def published(x, rows_of_tile, least):
    """Codes and scales, tile by tile, as DeepSeek's act_quant and weight quantisers define them."""
    rows, cols = x.shape
    padded = torch.zeros(-(-rows // rows_of_tile) * rows_of_tile, -(-cols // 128) * 128)
    padded[:rows, :cols] = x
    tiles = padded.view(padded.shape[0] // rows_of_tile, rows_of_tile, padded.shape[1] // 128, 128)
    scales = tiles.abs().amax(dim=(1, 3)).clamp(least) / 448.0
    if least == 0:
        scales[scales == 0] = 1
    codes = (tiles / scales[:, None, :, None]).to(torch.float8_e4m3fn).view(torch.uint8)
    return codes.reshape(padded.shape)[:rows, :cols].numpy(), scales.numpy()


def check(tool, millions, seed):
    """Prints what was compared; how many results differ."""
    random = numpy.random.default_rng(seed)
    differ = 0
    ours = numpy.frombuffer(run(tool, "decode"), numpy.float32)
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    differ += int((~((ours == theirs) | (numpy.isnan(ours) & numpy.isnan(theirs)))).sum())
    print(f"256 codes of E4M3: {differ} differ")

    values = numbers(millions, random)
    ours = numpy.frombuffer(run(tool, "encode", data=values.tobytes()), numpy.uint8)
    theirs = torch.from_numpy(values).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    wrong = int((ours != theirs).sum())
    print(f"{len(values):,} numbers in E4M3: {wrong} differ")
    differ += wrong

    for rows, cols in ((512, 1024), (130, 200), (1, 7168), (257, 129)):
        x = torch.randn(rows, cols, generator=torch.Generator().manual_seed(rows)) * torch.exp(3 * torch.randn(rows, 1))
        x[rows // 2] = 0
        for name, rows_of_tile in (("rows", 1), ("blocks", 128)):
            for least in (1e-4, 0.0):
                data = run(tool, name, rows, cols, least, data=x.numpy().tobytes())
                codes = numpy.frombuffer(data[:rows * cols], numpy.uint8).reshape(rows, cols)
                scales = numpy.frombuffer(data[rows * cols:], numpy.float32)
                want_codes, want_scales = published(x, rows_of_tile, least)
                wrong = int((codes != want_codes).sum() + (scales != want_scales.reshape(-1)).sum())
                print(f"{name} of {rows} x {cols}, least {least}: {wrong} codes and scales differ")
                differ += wrong
    return differ
