"""All trainers: exactly as many tokens as asked, all bytes inside, clear errors where the text or the size does not fit."""

import pytest
from tests.tokenizer.texts import corpus

from danlu.core.errors import BadInput, NoUsableText, VocabularyTooLarge
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.bpe import ByteLevelBPE, _buffer_texts
from danlu.tokenizer.trainers.chars import Chars

SIZED = [name for name in TRAINERS.names() if TRAINERS[name].sized]
FIXED = [name for name in TRAINERS.names() if not TRAINERS[name].sized]
SPECIAL = ("<a>", "<b>")


def trainer(kind, **settings):
    return TRAINERS[kind](TRAINERS[kind].Config(**settings))


@pytest.mark.parametrize("kind", SIZED)
def test_a_vocabulary_has_exactly_the_size_asked_for(kind):
    for size in (600, 777):
        tokenizer = trainer(kind).train(iter(corpus(9_000)), SPECIAL, vocab_size=size)
        assert tokenizer.vocab_size == size == tokenizer.reference.get_vocab_size()
        assert tokenizer.special_tokens == {"<a>": 0, "<b>": 1}
        assert {bytes([byte]) for byte in range(256)} <= {tokenizer.token_bytes(number) for number in range(size)}


@pytest.mark.parametrize("kind", ["bpe", *FIXED])  # the trainers of `tokenizers` break ties in the order of a random hash
def test_training_twice_gives_the_same_file(kind):
    size = {"vocab_size": 600} if kind in SIZED else {}
    first, second = (trainer(kind).train(iter(corpus(9_000)), SPECIAL, **size) for _ in range(2))
    assert first.definition == second.definition


@pytest.mark.parametrize("kind", SIZED)
def test_more_tokens_than_the_text_supports_is_an_error_that_says_how_many_it_does(kind):
    text = ["so it was, so it is"]
    with pytest.raises(VocabularyTooLarge, match=r"19 bytes support \d+ tokens.*--vocab_size \d+ or less"):
        trainer(kind).train(text, SPECIAL, vocab_size=5_000)
    assert 258 < trainer(kind).train(text, SPECIAL, vocab_size=5_000, shrink=True).vocab_size < 600


def test_the_number_in_the_error_is_the_number_that_works():
    texts = ["so it was, so it is"]
    with pytest.raises(VocabularyTooLarge) as error:
        trainer("bpe").train(texts, SPECIAL, vocab_size=5_000)
    most = int(str(error.value).split("--vocab_size ")[1].split()[0])
    assert trainer("bpe").train(texts, SPECIAL, vocab_size=most).vocab_size == most
    with pytest.raises(VocabularyTooLarge):
        trainer("bpe").train(texts, SPECIAL, vocab_size=most + 1)


@pytest.mark.parametrize("kind", SIZED)
def test_a_vocabulary_without_room_for_the_bytes_is_refused(kind):
    with pytest.raises(BadInput, match="too small"):
        trainer(kind).train(corpus(9_000), SPECIAL, vocab_size=257)


def test_a_byte_pair_vocabulary_may_be_the_bytes_alone():
    tokenizer = trainer("bpe").train(["ab"], SPECIAL, vocab_size=258)
    assert tokenizer.encode("é") == [2 + byte for byte in "é".encode()]


@pytest.mark.parametrize("kind", [name for name in TRAINERS.names() if name != "bytes"])
@pytest.mark.parametrize("texts", [[], ["", ""]], ids=["no documents", "empty documents"])
def test_nothing_to_learn_from_is_an_error(kind, texts):
    size = {"vocab_size": 600} if kind in SIZED else {}
    with pytest.raises(NoUsableText, match="no text"):
        trainer(kind).train(texts, SPECIAL, **size)


@pytest.mark.parametrize("kind", [name for name in TRAINERS.names() if name != "bytes"])
def test_text_that_is_no_unicode_is_refused_by_its_number(kind):
    size = {"vocab_size": 600} if kind in SIZED else {}
    with pytest.raises(BadInput, match="text 2 holds a lone surrogate at character 1"):
        trainer(kind).train(["fine", "x\udc00"], SPECIAL, **size)


def test_fixed_vocabularies_refuse_another_size():
    with pytest.raises(BadInput, match="exactly 258"):
        trainer("bytes").train([], SPECIAL, vocab_size=300)
    with pytest.raises(BadInput, match="3 characters, 256 bytes and 2 special token"):
        trainer("chars").train(["abc"], SPECIAL, vocab_size=260)


def test_characters_are_in_code_point_order_and_bytes_stand_in_for_strangers():
    tokenizer = Chars(Chars.Config()).train(["b中a"], SPECIAL)
    assert tokenizer.encode("ab中") == [258, 259, 260]
    assert tokenizer.encode("文") == [2 + byte for byte in "文".encode()]


def test_the_engines_of_the_trainer_agree():
    """rustbpe and the plain trainer to the byte; `tokenizers` up to the order of ties (test_plain.py)."""
    texts = corpus(9_000)
    found = {
        name: trainer("bpe", engine=name).train(texts, SPECIAL, vocab_size=330) for name in ("rustbpe", "plain", "tokenizers")
    }
    assert found["rustbpe"].definition == found["plain"].definition
    lengths = {name: len(tokenizer.encode("".join(texts))) for name, tokenizer in found.items()}
    assert lengths["tokenizers"] == pytest.approx(lengths["plain"], rel=0.01)


def test_a_special_token_that_the_text_spells_is_not_learned_as_one():
    tokenizer = ByteLevelBPE(ByteLevelBPE.Config()).train(["the <a> the <a> the"] * 5, SPECIAL, vocab_size=261)
    assert tokenizer.decode(tokenizer.encode("the <a>")) == "the <a>"
    assert 0 not in tokenizer.encode("the <a>")


def test_few_long_texts_wait_at_once_and_none_is_lost():
    buffer, texts = _buffer_texts(iter(["x" * 4_000_000] * 12))
    assert buffer == 16
    assert sum(map(len, texts)) == 48_000_000
    buffer, texts = _buffer_texts(iter(["short"] * 2_000))
    assert buffer == 65_536
    assert len(list(texts)) == 2_000
