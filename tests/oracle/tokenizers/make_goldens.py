"""Writes golden/tokenizers: small tokenizers and what the library `tokenizers` makes of some texts with them.

  python make_goldens.py      rewrites tests/oracle/golden/tokenizers, the same bytes every time

<name>.json is a tokenizer.json, <name>.cases.json a list of {text, ids, decoded, with_special (ids with the template's
tokens, where they differ, of short ones)}. `trained` was trained by `tokenizers` on training.txt, whose documents a line of four
dashes separates, with the ids and patterns of Strait's trainer.
"""

import json
import os
import random

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import AddedToken, Tokenizer, pre_tokenizers, trainers, models, decoders

import families
import texts as texts_module

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "tokenizers")
SEPARATOR = "\n----\n"
TEXTS = [
    "", " ", "\n", "  \n\n ", "Hello, world!", "I'LL we've DON'T it's", "x=1234567890;  y = 3.14159\r\n\r\n\tz",
    "def f(a, b):\n    return a+b  # comment\n\n\n", "\u4f60\u597d\uff0c\u4e16\u754c\uff01\u6df1\u5ea6\u5b66\u4e60",
    "\u3053\u308c\u306f\u30c6\u30b9\u30c8\u3067\u3059\u3002", "caf\u00e9 cafe\u0301 \u00c5\u212b \ufb01 \u1e9b\u0323",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u263a\ufe0f",
    "\u0643\u062a\u0627\u0628 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947 \ud55c\uad6d\uc5b4",
    "a\u00a0b\u2003c\u3000d\u180ee\u200bf\u0085g\u2028h", "<|endoftext|>x<\uff5cend\u2581of\u2581sentence\uff5c> y<|begin_of_text|>",
    "a <strip> b WORD xWORDy e\u0301tat <tool_call><tool>", "a" * 60, " " * 40 + "x", "-" * 33, "\u0301" * 9, "\ufeff\u0000\u007f",
]


def trained(training):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [families.split(p) for p in families.DEEPSEEK_V3] + [families.byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5c\u2581pad\u2581\uff5c>"]
    tokenizer.train_from_iterator(training, trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=[AddedToken(t, normalized=False, special=True) for t in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer.to_str()


def cases(tokenizer, texts):
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        special = tokenizer.encode(text, add_special_tokens=True).ids
        case = {"text": text, "ids": ids}
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        if decoded != text:
            case["decoded"] = decoded
        if special != ids and len(ids) < 40:
            case["with_special"] = special
        yield case


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    rng = random.Random(7)
    training = [texts_module.made_up(rng, 400) for _ in range(60)]
    training = [text for text in training if "<\uff5c" not in text]
    texts = TEXTS + [texts_module.made_up(rng, 250) for _ in range(10)]
    names = ("deepseek_v3", "qwen2", "llama3", "gpt2", "gpt4o_nfd", "behaviors")
    made = {name: text for name, text in families.all_families(training, 420).items() if name in names}
    made["trained"] = trained(training)
    with open(os.path.join(GOLDEN, "training.txt"), "w", encoding="utf-8", newline="") as out:
        out.write(SEPARATOR.join(training))
    for name, text in made.items():
        with open(os.path.join(GOLDEN, name + ".json"), "w", encoding="utf-8") as out:
            out.write(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")) + "\n")
        lines = [json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases(Tokenizer.from_str(text), texts)]
        with open(os.path.join(GOLDEN, name + ".cases.json"), "w") as out:
            out.write("[\n" + ",\n".join(lines) + "\n]\n")
    print(sum(os.path.getsize(os.path.join(GOLDEN, f)) for f in os.listdir(GOLDEN)), "bytes")


main()
