"""New tokens: next ids, the same ids for all other text, the same in transformers, and no token twice."""

import pytest

from danlu.core.errors import BadInput
from danlu.tokenizer.extend import extend
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers.bpe import ByteLevelBPE
from danlu.tokenizer.trainers.unigram import Unigram

TEXTS = ["the furnace burns the herbs, and the herbs become a pill", "炉火照丹房，丹成九转", "the pill is warm"] * 4
SAID = "the 丹炉 burns; <think>warm</think> <|tool|> pill丹炉"


def trained(kind):
    return kind(kind.Config()).train(TEXTS, vocab_size=300 if kind is ByteLevelBPE else 262)


@pytest.mark.parametrize("kind", [ByteLevelBPE, Unigram])
def test_new_tokens_take_the_next_ids_here_and_in_transformers(kind, tmp_path):
    from transformers import AutoTokenizer

    old = trained(kind)
    new = extend(old, ["丹炉", "<think>", "</think>", "<|tool|>"])
    assert [new.vocab[token] for token in ("丹炉", "<think>", "</think>", "<|tool|>")] == [*range(len(old), len(old) + 4)]
    assert new.encode(TEXTS[0]) == old.encode(TEXTS[0])
    ids = new.encode(SAID, allow_special={"<|tool|>"})
    assert ids.count(new.vocab["丹炉"]) == 2 and new.vocab["<|tool|>"] in ids
    assert new.vocab["<|tool|>"] not in new.encode(SAID)  # a special token is found by permission alone
    assert new.decode(ids) == SAID
    new.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.encode(SAID, add_special_tokens=False) == ids
    again = Tokenizer.open(tmp_path)
    assert again.vocab == new.vocab and again.special_tokens == new.special_tokens


@pytest.mark.parametrize(("tokens", "reason"), [
    (["a"], "'a' is token"), (["<|endoftext|>"], "is token 0 already"), ([" the"], "' the' is token"),
    (["x", "x"], "stands twice"), (["  "], "empty or blank"), ([], "no token to add"),
])  # fmt: skip
def test_a_token_that_is_there_already_is_refused(tokens, reason):
    with pytest.raises(BadInput, match=reason):
        extend(trained(ByteLevelBPE), tokens)
