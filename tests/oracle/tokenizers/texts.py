"""Texts that stress a tokenizer: real files plus made-up mixtures of scripts, marks, emoji and random Unicode."""

import glob
import random

ASCII_WORDS = (
    "the of and to in that is was he for it with as his on be at by I'll DON'T we've she'd it's THEY'RE "
    "expert token gradient router pipeline schedule attention 3.14159 1234567890 0x7fff foo_bar std::vector "
    "https://example.org/a?b=c&d=%20 user@example.com $100.00 50% #include <stdio.h> != -> => :: // /* */"
).split()
CHINESE = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从知全点实業開關體國門風龍龜"
KANA = "これはテストですがぎぐげごパピプペポハンカク゛゜ーヽ々〆"
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "☺️", "🤖", "1️⃣", "\U0001fae8", "\U0001f6dc"]
MARKS = [chr(c) for c in list(range(0x300, 0x370)) + list(range(0x1AB0, 0x1ACF)) + list(range(0x20D0, 0x20F1))]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u180e",
          "\u200b", "\u0085", "\u2028", "\u1680", "\x0b", "\x0c", "\u202f", "\ufeff"]
SCRIPTS = [(0x400, 0x4FF), (0x370, 0x3FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F),
           (0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x3400, 0x4DBF),
           (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFF00, 0xFFEF), (0x10400, 0x1044F), (0x1D400, 0x1D7FF),
           (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0x1F300, 0x1FAFF), (0x0, 0x7F), (0x80, 0xFF), (0x100, 0x24F)]


def any_code_point(rng):
    while True:
        value = rng.choice((rng.randrange(0x110000), rng.randrange(0x3000), rng.randrange(0x20000)))
        if not 0xD800 <= value <= 0xDFFF:
            return chr(value)


def made_up(rng, length):
    """A text of about `length` characters."""
    out = []
    size = 0
    while size < length:
        kind = rng.randrange(14)
        if kind < 4:
            part = rng.choice((" ", "", " ", "  ")).join(rng.choices(ASCII_WORDS, k=rng.randrange(1, 12)))
        elif kind == 4:
            part = "".join(rng.choices(CHINESE, k=rng.randrange(1, 20))) + rng.choice("，。！？、；：（）《》 ")
        elif kind == 5:
            part = "".join(rng.choices(KANA, k=rng.randrange(1, 10)))
        elif kind == 6:
            part = "".join(rng.choices(EMOJI, k=rng.randrange(1, 4)))
        elif kind == 7:
            part = "".join(rng.choice("aeioAEnNcCsſKkuµéñçÅΩ한") + "".join(rng.choices(MARKS, k=rng.randrange(4)))
                           for _ in range(rng.randrange(1, 6)))
        elif kind == 8:
            part = "".join(any_code_point(rng) for _ in range(rng.randrange(1, 12)))
        elif kind == 9:
            first, last = rng.choice(SCRIPTS)
            part = "".join(chr(rng.randrange(first, last + 1)) for _ in range(rng.randrange(1, 12)))
        elif kind == 10:
            part = "".join(rng.choices(SPACES, k=rng.randrange(1, 5)))
        elif kind == 11:
            part = "".join(rng.choices("0123456789٣४５Ⅷ½²", k=rng.randrange(1, 9)))
        elif kind == 12:
            part = "".join(rng.choices("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", k=rng.randrange(1, 6)))
            part += rng.choice(("", "abc", "'S", "'ſ", "'ll", "'RE ", "\n", "\r\n\r\n"))
        else:
            part = rng.choice(SPECIALS) + rng.choice(("", " ", "x", "\n", "é"))
        out.append(part)
        size += len(part)
    return "".join(out)


SPECIALS = ["<|endoftext|>", "<|im_start|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|begin_of_text|>",
            "<tool>", "<tool_call>", "<|", "<strip>", "WORD", "xWORDy", " <strip> ", "e\u0301tat", "état"]


def every_code_point():
    """Every code point between letters, spaces, digits and marks: 1.1 million contexts."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    block = 512
    for start in range(0, len(points), block):
        chunk = points[start:start + block]
        yield " ".join(chunk)
        yield "".join(chunk)
        yield "".join(f"a{c}1{c}\u0323\n" for c in chunk)


def real_files(limit_bytes, folders=()):
    """Text files found on this machine (documentation and source), up to limit_bytes."""
    total = 0
    patterns = tuple(f"{folder}/**/*.*" for folder in folders) + ("/usr/share/perl/**/*.pod", "/usr/share/doc/**/*.txt", "/usr/include/**/*.h", "/usr/lib/python3*/*.py",
                "/usr/local/lib/python3*/*.py", "/usr/share/i18n/locales/*", "/usr/share/common-licenses/*")
    for pattern in patterns:
        for path in sorted(glob.glob(pattern, recursive=True)):
            try:
                text = open(path, encoding="utf-8", newline="").read()
            except (UnicodeDecodeError, OSError):
                continue
            if not text or len(text) > 300_000:
                continue
            yield text
            total += len(text.encode())
            if total > limit_bytes:
                return


def corpus(seed, made_up_bytes, real_bytes, folders=()):
    rng = random.Random(seed)
    texts = list(real_files(real_bytes, folders)) if real_bytes > 0 else []
    size = 0
    while size < made_up_bytes:
        text = made_up(rng, rng.choice((5, 50, 500, 5000)))
        texts.append(text)
        size += len(text.encode())
    return texts
