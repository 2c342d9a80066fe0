"""A model whose vocabulary grew says of the old tokens what it said, begins new ones at means, and loads in transformers."""

import copy

import pytest
import torch

from danlu.core.errors import TokenizerMismatch, UnsupportedModel
from danlu.models import MODELS
from danlu.models.base import Seq2SeqLM
from danlu.models.resize import resize
from danlu.models.weights import load_model, save_model
from danlu.nn.bigram import BigramEmbedding
from danlu.tokenizer.extend import extend
from danlu.tokenizer.trainers.bytes import Bytes
from tests.models.reference import OWN, assert_close, ours, theirs

OLD = Bytes(Bytes.Config()).train()  # 259 tokens
NEW = extend(OLD, ["丹炉", "ab", "<|think|>", "<|done|>"])
PADDED = 260  # a row more than the tokenizer has tokens, to be used first
FAMILIES = [name for name in MODELS.names() if not MODELS[name].counted]


def logits(model, ids):
    return model(ids, **({"source_BS": ids[:, :5]} if isinstance(model, Seq2SeqLM) else {}))


def grow(model):
    """The model with room for the new tokens, beside the one that it was."""
    grown = copy.deepcopy(model)
    resize(grown, OLD, NEW)
    return grown


def ids(most=259, rows=2, length=11):
    return torch.randint(most, (rows, length), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("family", FAMILIES)
def test_old_tokens_keep_their_logits_in_every_family(family, tmp_path):
    model = ours(family, {"vocab_size": PADDED})
    if any(isinstance(part, BigramEmbedding) for part in model.modules()):
        with pytest.raises(UnsupportedModel, match="size of the vocabulary"):
            resize(model, OLD, NEW)
        return
    with torch.no_grad():
        grown = grow(model)
        assert grown.vocab_size == grown.config.vocab_size == len(NEW) == 263
        torch.testing.assert_close(logits(grown, ids())[..., :259], logits(model, ids())[..., :259])
        save_model(grown, tmp_path)
        new = ids(263)
        assert_close(logits(load_model(tmp_path), new), logits(grown, new))
        if family not in OWN and not isinstance(model, Seq2SeqLM):
            assert_close(theirs(family, tmp_path)(new).logits, logits(grown, new))


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_means_of_pieces_or_of_all(tied):
    model = ours("qwen3", {"vocab_size": PADDED, "tie_word_embeddings": tied})
    grown = grow(model)
    for old, new in ((model.embedding, grown.embedding), (model.output_weight, grown.output_weight)):
        assert torch.equal(new[:259], old[:259])
        torch.testing.assert_close(new[259], old[OLD.encode("丹炉")].mean(0))  # six bytes
        torch.testing.assert_close(new[260], (old[OLD.encode("a")] + old[OLD.encode("b")])[0] / 2)
        torch.testing.assert_close(new[261], old[:259].mean(0))
        torch.testing.assert_close(new[262], old[:259].mean(0))
    assert (grown.output_weight is grown.embedding) == tied


def test_padding_rows_are_used_first_and_kept():
    model = ours("llama", {"vocab_size": 272})
    model.embedding.requires_grad_(False)
    grown = grow(model.train())
    assert grown.vocab_size == 272 and grown.training and not grown.embedding.requires_grad
    assert torch.equal(grown.embedding[263:], model.embedding[263:])
    torch.testing.assert_close(grown.embedding[261], model.embedding[:259].mean(0))
    assert len(grow(ours("sprint", {"vocab_size": 272})).embedding) == 272  # no pair is lost where nothing grows


def test_a_vocabulary_of_another_is_refused():
    model = ours("llama", {"vocab_size": PADDED})
    other = Bytes(Bytes.Config()).train(special_tokens=["<s>"])
    with pytest.raises(TokenizerMismatch, match="have other ids"):
        resize(model, OLD, other)
    with pytest.raises(TokenizerMismatch, match="not the model's"):
        resize(ours("llama", {}), OLD, NEW)
    with pytest.raises(UnsupportedModel, match="counts"):
        resize(MODELS["ngram"].tiny(), OLD, NEW)
