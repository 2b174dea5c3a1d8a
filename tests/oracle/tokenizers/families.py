"""Small tokenizers with the normalisers, split patterns and processors of published families, trained here.

The patterns are those of the published tokenizer.json files of DeepSeek-V3, Qwen2.5, Llama-3 and GPT-2; the
vocabularies are not. `mixed` has the rest of what data/tokenizer reads.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(add_prefix_space=False, use_regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


def trained(texts, vocab_size, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, special_tokens=[],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def deepseek_v3(texts, vocab_size):
    tokenizer = trained(texts, vocab_size, pre_tokenizers.Sequence([split(p) for p in DEEPSEEK_V3] + [byte_level()]),
                        normalizers.Sequence([]))
    begin, end = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (begin, end)])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<tool>", "<tool_call>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin}:0 $A:0", pair=f"{begin}:0 $A:0 {begin}:1 $B:1",
        special_tokens=[(begin, tokenizer.token_to_id(begin))])
    return tokenizer


def qwen2(texts, vocab_size):
    tokenizer = trained(texts, vocab_size, pre_tokenizers.Sequence([split(QWEN2), byte_level()]), normalizers.NFC())
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<|endoftext|>", "<|im_start|>")])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    return tokenizer


def llama3(texts, vocab_size):
    tokenizer = trained(texts, vocab_size, pre_tokenizers.Sequence([split(LLAMA3), byte_level()]))
    begin = "<|begin_of_text|>"
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (begin, "<|end_of_text|>")])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin} $B",
                                      special_tokens=[(begin, tokenizer.token_to_id(begin))])])
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = True
    # Make ignore_merges matter: whole words that no merges lead to.
    vocabulary = content["model"]["vocab"]
    words = ["\u0120gradient", "token", "\u0120DON", "\u4e00".encode().decode("latin-1")]
    for token in words[:3]:
        if token not in vocabulary:
            continue
        content["model"]["merges"] = [m for m in content["model"]["merges"] if "".join(m) != token]
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def gpt2(texts, vocab_size):
    tokenizer = trained(texts, vocab_size, byte_level(add_prefix_space=True, use_regex=True))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    content = json.loads(tokenizer.to_str())
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]  # the older form
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False)), content


def mixed(texts, vocab_size, normalizer, stages):
    tokenizer = trained(texts, vocab_size, pre_tokenizers.Sequence(stages + [byte_level()]), normalizer)
    tokenizer.add_tokens([AddedToken("<strip>", lstrip=True, rstrip=True), AddedToken("WORD", single_word=True),
                          AddedToken("e\u0301tat", normalized=True), AddedToken("<tool>"), AddedToken("<tool_call>")])
    return tokenizer


def all_families(texts, vocab_size):
    """name -> the text of a tokenizer.json"""
    made = {"deepseek_v3": deepseek_v3(texts, vocab_size).to_str(), "qwen2": qwen2(texts, vocab_size).to_str(),
            "llama3": llama3(texts, vocab_size).to_str()}
    made["gpt2"] = json.dumps(gpt2(texts, vocab_size)[1], ensure_ascii=False)
    p = pre_tokenizers
    variants = {
        "gpt4o_nfd": (normalizers.NFD(), [split(GPT4O)]),
        "digits_nfkc": (normalizers.NFKC(), [p.Digits(individual_digits=True), p.Punctuation("merged_with_previous")]),
        "spaces_nfkd": (normalizers.Sequence([normalizers.NFKD(), normalizers.NFC()]),
                        [p.WhitespaceSplit(), p.Digits(individual_digits=False), p.Punctuation("contiguous")]),
        "words": (None, [p.Whitespace(), p.CharDelimiterSplit("e"), split(r"[A-Z]", "merged_with_next")]),
        "behaviors": (None, [split(r"[aeiou]+", "merged_with_previous"),
                             split(r"\p{Han}+|\p{Greek}", "contiguous"), p.Split("st", "merged_with_next"),
                             split(r"\h{2,}|\w\W", "isolated", True), split(r"x*", "isolated")]),
    }
    for name, (normalizer, stages) in variants.items():
        made[name] = mixed(texts, vocab_size, normalizer, stages).to_str()
    return made
