"""Compares data/tokenizer with the library `tokenizers`, id by id.

  python compare.py ENCODER [--real-mb 4] [--made-up-mb 5] [--seed 1] [--work DIR]

ENCODER is a program called as `ENCODER tokenizer.json IN OUT [special]`: IN holds texts, each as a 32-bit length and its
bytes; OUT gets for each text a 32-bit count, the ids, and the decoded text in the form of IN
(tests/oracle/tokenizers/encoder.cpp).
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

import families
import texts as texts_module


def pack(texts):
    return b"".join(struct.pack("<I", len(t)) + t for t in (text.encode() for text in texts))


def unpack(data):
    at = 0
    while at < len(data):
        (count,) = struct.unpack_from("<I", data, at)
        ids = list(struct.unpack_from(f"<{count}i", data, at + 4))
        at += 4 + 4 * count
        (size,) = struct.unpack_from("<I", data, at)
        yield ids, data[at + 4:at + 4 + size].decode()
        at += 4 + size


def compare(name, json_text, texts, encoder, work):
    """The number of texts that differ."""
    path = os.path.join(work, f"{name}.json")
    with open(path, "w", encoding="utf-8") as out:
        out.write(json_text)
    with open(os.path.join(work, "in"), "wb") as out:
        out.write(pack(texts))
    reference = Tokenizer.from_str(json_text)
    bad = 0
    total = 0
    for special in (False, True):
        command = [encoder, path, os.path.join(work, "in"), os.path.join(work, "out")]
        subprocess.run(command + (["special"] if special else []), check=True)
        encodings = reference.encode_batch(texts, add_special_tokens=special)
        with open(os.path.join(work, "out"), "rb") as results:
            ours = list(unpack(results.read()))
        assert len(ours) == len(texts)
        for text, encoding, (ids, decoded) in zip(texts, encodings, ours):
            total += len(encoding.ids)
            if ids != encoding.ids:
                where = next((i for i, (a, b) in enumerate(zip(ids, encoding.ids)) if a != b), min(len(ids), len(encoding.ids)))
                bad += 1
                if bad <= 5:
                    print(f"{name}: id {where}: {encoding.tokens[where - 2:where + 4]} here "
                          f"{[reference.id_to_token(i) for i in ids[where - 2:where + 4]]}")
            elif decoded != reference.decode(encoding.ids, skip_special_tokens=False):
                bad += 1
                if bad <= 5:
                    print(f"{name}: decoded differs: {decoded[:80]!r}")
    print(f"{name}: {len(texts)} texts, {sum(len(t.encode()) for t in texts)} bytes, {total} ids, {bad} differ", flush=True)
    return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("encoder")
    parser.add_argument("--real-mb", type=float, default=4)
    parser.add_argument("--made-up-mb", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocab", type=int, default=3000)
    parser.add_argument("--work", default=None)
    arguments = parser.parse_args()
    work = arguments.work or tempfile.mkdtemp()
    training = texts_module.corpus(arguments.seed + 1000, 1_000_000, 1_500_000)
    texts = texts_module.corpus(arguments.seed, int(arguments.made_up_mb * 1e6), int(arguments.real_mb * 1e6))
    texts += list(texts_module.every_code_point())
    texts += ["", " ", "\n", "a" * 5000, " " * 5000, "1" * 1000, "\u0301" * 300]
    bad = sum(compare(name, json_text, texts, arguments.encoder, work)
              for name, json_text in families.all_families(training, arguments.vocab).items())
    sys.exit(1 if bad else 0)


main()
