"""Compares data/tokenizer with the library `tokenizers`, id by id, and the speed of the two (CPU time of one thread).

  cmake --build --preset release --target tokenizer_tool
  python compare.py build/release/tests/data/tokenizer_tool [--real-mb 6] [--made-up-mb 6] [--seed 1] [--all]

Texts: files found on this machine (English, code), made-up mixtures of English, Chinese, Japanese, code, emoji, marks and
random valid Unicode, and every code point between letters, digits and marks. Tokenizers: one that Strait trained on half
of such text (its merges are compared with those of `tokenizers`' trainer as well), and small ones with the normalisers,
patterns and processors of published families (families.py). Exit code 1 if anything differs.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

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


class Comparison:
    def __init__(self, tool, work):
        self.tool, self.work = tool, work
        self.num_bytes = self.num_ids = self.num_different = 0

    def run_tool(self, *arguments):
        return float(subprocess.run([self.tool, *arguments], check=True, capture_output=True, text=True).stdout)

    def report(self, name, *what):
        self.num_different += 1
        if self.num_different <= 20:
            print(f"{name}:", *what)

    def compare(self, name, kind, path, texts, special=False):
        """Encodes and decodes all texts with both."""
        reference = Tokenizer.from_file(path)
        # tokenizers 0.23 decodes an added token that its normaliser changes to broken characters; 0.22 did not.
        broken = {i for token, i in reference.get_vocab().items() if reference.id_to_token(i) != token}
        packed, out = os.path.join(self.work, "texts"), os.path.join(self.work, "ids")
        with open(packed, "wb") as file:
            file.write(pack(texts))
        ours_s = self.run_tool("encode", path, packed, out, *(["special"] if special else []))
        with open(out, "rb") as results:
            ours = list(unpack(results.read()))
        assert len(ours) == len(texts)
        before, num_ids, theirs_s = self.num_different, 0, 0.0
        for first in range(0, len(texts), 64):
            start = time.process_time()
            encodings = reference.encode_batch_fast(texts[first:first + 64], add_special_tokens=special)
            theirs_s += time.process_time() - start
            for encoding, (ids, decoded) in zip(encodings, ours[first:]):
                num_ids += len(ids)
                if ids != encoding.ids:
                    same = (i for i, (a, b) in enumerate(zip(ids, encoding.ids)) if a != b)
                    where = next(same, min(len(ids), len(encoding.ids)))
                    here = [reference.id_to_token(i) for i in ids[max(0, where - 2):where + 4]]
                    self.report(name, f"id {where}: {[reference.id_to_token(i) for i in encoding.ids[max(0, where - 2):where + 4]]} here {here}")
                elif broken.isdisjoint(ids) and decoded != (theirs := reference.decode(ids, skip_special_tokens=False)):
                    where = next((i for i, (a, b) in enumerate(zip(decoded, theirs)) if a != b), 0)
                    self.report(name, f"decoded: {theirs[max(0, where - 9):where + 9]!r} here {decoded[max(0, where - 9):where + 9]!r}")
        num_bytes = sum(len(text.encode()) for text in texts)
        self.num_ids += num_ids
        self.num_bytes += num_bytes
        print(f"{name:12} {kind:12} {len(texts):6} texts {num_bytes / 1e6:6.2f} MB {num_ids:9} ids "
              f"{self.num_different - before:3} differ   {num_bytes / 1e6 / ours_s:6.2f} MB/s, tokenizers "
              f"{num_bytes / 1e6 / theirs_s:5.2f}: {theirs_s / ours_s:5.1f} times as fast", flush=True)

    def train(self, texts, vocab_size):
        """Trains with both; returns the path of Strait's tokenizer.json."""
        training = os.path.join(self.work, "training")
        path = os.path.join(self.work, "trained.json")
        with open(training, "wb") as out:
            out.write(pack(texts))
        ours_s = self.run_tool("train", path, str(vocab_size), training)
        ours = Tokenizer.from_file(path)
        theirs = Tokenizer(models.BPE())
        theirs.pre_tokenizer = ours.pre_tokenizer
        names = [token["content"] for token in json.loads(ours.to_str())["added_tokens"]]
        start = time.process_time()
        theirs.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=vocab_size, show_progress=False, special_tokens=names,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        theirs_s = time.process_time() - start
        ours_model, theirs_model = (json.loads(t.to_str())["model"] for t in (ours, theirs))
        equal = sum(a == b for a, b in zip(ours_model["merges"], theirs_model["merges"]))
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        print(f"trained on {megabytes:.1f} MB to {vocab_size} tokens in {ours_s:.2f} s (tokenizers {theirs_s:.2f} s): "
              f"{equal} of {len(theirs_model['merges'])} merges equal", flush=True)
        if ours_model["merges"] != theirs_model["merges"] or ours_model["vocab"] != theirs_model["vocab"]:
            self.report("trainer", "merges or vocabulary differ")
        return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--real-mb", type=float, default=6)
    parser.add_argument("--made-up-mb", type=float, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--kinds", nargs="*", help="kinds of text (default: all)")
    parser.add_argument("--only", nargs="*", help="names of tokenizers")
    parser.add_argument("--all", action="store_true", help="all of families.py, not only the published patterns")
    parser.add_argument("--real", nargs="*", default=[], help="more folders to take text from")
    arguments = parser.parse_args()
    training = [text for text in texts_module.corpus(arguments.seed + 1000, 3_000_000, 3_000_000, arguments.real)
                if "<\uff5c" not in text]  # special tokens: the other trainer takes them for words
    kinds = {"real files": list(texts_module.real_files(int(arguments.real_mb * 1e6), arguments.real)),
             "made up": texts_module.corpus(arguments.seed, int(arguments.made_up_mb * 1e6), 0),
             "code points": list(texts_module.every_code_point()),
             "odd ones": ["", " ", "\n", "a" * 5000, " " * 5000, "1" * 1000, "\u0301" * 300, "\ufeff", "\0" * 100]}
    with tempfile.TemporaryDirectory() as work:
        comparison = Comparison(arguments.tool, work)
        paths = {"trained": comparison.train(training, arguments.vocab)}
        for name, json_text in families.all_families(training[::4], 3000).items():
            paths[name] = os.path.join(work, f"{name}.json")
            with open(paths[name], "w", encoding="utf-8") as out:
                out.write(json_text)
        if arguments.only or not arguments.all:
            paths = {name: paths[name] for name in arguments.only or ("trained", "deepseek_v3", "qwen2", "llama3")}
        for name, path in paths.items():
            for kind, texts in kinds.items():
                if arguments.kinds is None or kind in arguments.kinds:
                    comparison.compare(name, kind, path, texts)
            comparison.compare(name, "with special", path, kinds["made up"][::10], special=True)
    print(f"{len(paths)} tokenizers, {comparison.num_bytes / 1e6:.1f} MB of text, {comparison.num_ids} ids: "
          f"{comparison.num_different} differences")
    sys.exit(1 if comparison.num_different else 0)


if __name__ == "__main__":
    main()
