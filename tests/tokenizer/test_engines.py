"""Which engine is chosen for the tokenizer.json of others, why, and that it always gives what `tokenizers` gives."""

import json

import pytest
from tests.tokenizer.texts import HOSTILE, corpus
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Theirs

from danlu.core.errors import BadInput
from danlu.tokenizer.engines import HOSTILE as TRICKY
from danlu.tokenizer.patterns import GPT4
from danlu.tokenizer.tokenizer import Tokenizer

TEXTS = [
    *TRICKY,
    *(text[:1_000] for text in HOSTILE.values()),
    *corpus()[::9],
    "x <think> y</think>\n<s>[MASK] z",
    "e\u0301\u212b",
]


def learn(theirs, trainer, texts=60_000):
    theirs.train_from_iterator(corpus(texts), trainer)
    return theirs


def gpt2_style():
    theirs = Theirs(models.BPE())
    theirs.pre_tokenizer, theirs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return learn(theirs, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False,
                                             special_tokens=["<|endoftext|>"]))  # fmt: skip


def qwen_style():
    theirs = Theirs(models.BPE())
    theirs.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(GPT4.replace("{1,3}", "")), "isolated")
    theirs.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs.decoder, theirs.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    learn(theirs, trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    theirs.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    theirs.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False, lstrip=True)])
    return theirs


def llama3_style():
    """Every pair that makes a token is in the list, and whole pieces are looked up first."""
    tree = json.loads(qwen_style().to_str())
    vocab = tree["model"]["vocab"]
    names = sorted((name for name in vocab if len(name) > 1), key=vocab.get)
    tree["model"]["merges"] = [[name[:at], name[at:]] for name in names for at in range(1, len(name))
                               if name[:at] in vocab and name[at:] in vocab]  # fmt: skip
    tree["model"]["ignore_merges"], tree["normalizer"] = True, None
    assert len(tree["model"]["merges"]) > len(names)
    return Theirs.from_str(json.dumps(tree))


def llama2_style():
    theirs = Theirs(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    theirs.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    theirs.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learn(theirs, trainers.BpeTrainer(vocab_size=900, special_tokens=fixed, show_progress=False), 12_000)
    tree = json.loads(theirs.to_str())
    tree["added_tokens"] = tree["added_tokens"][:3]
    return Theirs.from_str(json.dumps(tree))


def bert_style():
    theirs = Theirs(models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer, theirs.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    theirs.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", AddedToken("[MASK]", lstrip=True)]
    return learn(theirs, trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False), 12_000)


STYLES = {gpt2_style: "tiktoken", qwen_style: "tiktoken", llama3_style: "tiktoken", llama2_style: "tokenizers",
          bert_style: "tokenizers"}  # fmt: skip


@pytest.mark.parametrize(("style", "engine"), STYLES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_folders_of_others_give_their_own_ids(style, engine, tmp_path):
    theirs = style()
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.open(tmp_path)
    assert ours.engine.name == engine, ours.engine_reason
    assert ours.vocab_size == theirs.get_vocab_size(with_added_tokens=True)
    for text in TEXTS:
        theirs.encode_special_tokens = True
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        theirs.encode_special_tokens = False
        if engine == "tiktoken":
            everything = ours.encode(text, allow_special=ours.special_tokens)
            assert everything == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_streams_of_others_decode_as_a_whole(style, tmp_path):
    style().save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.open(tmp_path)
    for text in ("the pot 中文 👩‍👩‍👧‍👦 is\nwarm", HOSTILE["code"]):
        ids, decoder = ours.encode(text), ours.decoder()
        assert "".join(map(decoder.push, ids)) + decoder.flush() == ours.decode(ids)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {"unk_token": "a"}}, "unk_token"),
        ({"model": {"merges": []}}, "no merge forms"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "not one regular expression"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}, "not one"),
    ],
)
def test_the_reason_for_the_slower_engine_is_said(change, reason):
    tree = json.loads(gpt2_style().to_str())
    for key, value in change.items():
        tree[key] = {**tree[key], **value} if key == "model" else value
    ours = Tokenizer(json.dumps(tree))
    assert ours.engine.name == "tokenizers"
    assert reason in ours.engine_reason
    assert ours.encode("the pot 中") == Theirs.from_str(json.dumps(tree)).encode("the pot 中").ids


def test_characters_that_a_refusing_vocabulary_lacks_are_named():
    from danlu.tokenizer.trainers.chars import Chars

    strict = Chars(Chars.Config(unknown="refuse")).train(["abc 中"])
    assert strict.decode(strict.encode("cab中")) == "cab中"
    with pytest.raises(BadInput, match=r"2 character\(s\) are not in this vocabulary: '文', '😀'"):
        strict.encode("a文b😀")
