"""Pairs keep their two sides, stand whole in rows, and are learned from as each would be alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from danlu.core.errors import BadInput
from danlu.data.shards import Document
from danlu.data.tokens import TokenSet, write_tokens
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from tests.objectives.rows import learned

TOKENIZER = learned()
PAIRS = [("the cat sat", "猫坐着"), ("round moon", "圆月"), ("x", "y"), ("a <|endoftext|> b", "not an end"), ("the moon", "月亮")]
OBJECTIVE = OBJECTIVES.build(OBJECTIVES["seq2seq"].Config(), TOKENIZER)


@pytest.fixture
def tokens(tmp_path):
    documents = [
        Document(id=str(at), source="s", path="p.jsonl", line=at + 1, text=f"{prompt}\n\n{answer}",
                 sample={"prompt": prompt, "answer": answer})
        for at, (prompt, answer) in enumerate(PAIRS)
    ]  # fmt: skip
    write_tokens(
        tmp_path, iter(documents), OBJECTIVE.encode_batch, bos_id=TOKENIZER.bos_id, eos_id=TOKENIZER.eos_id,
        vocab_size=TOKENIZER.vocab_size, take=OBJECTIVE.take,
    )  # fmt: skip
    return TokenSet.open(tmp_path)


def test_each_pair_comes_back_as_it_was(tokens):
    packer = OBJECTIVE.packer(tokens, 20, seed=0)
    batch = OBJECTIVE.batch([packer.served(number) for number in range(packer.rows_per_epoch)], [0] * packer.rows_per_epoch)
    found = []
    for row in range(len(batch.ids)):
        for number in range(int(batch.documents[row].max()) + 1):
            target = batch.targets[row][batch.documents[row] == number]
            source = batch.source[row][batch.source_documents[row] == number]
            if (target == -100).all():
                continue
            assert source[-1] == target[-1] == TOKENIZER.eos_id
            found.append((TOKENIZER.decode(source[:-1].tolist()), TOKENIZER.decode(target[:-1].tolist())))
            ids = batch.ids[row][batch.documents[row] == number]
            assert ids.tolist() == [TOKENIZER.start_id, *target[:-1].tolist()]
    assert sorted(found) == sorted(PAIRS)
    assert int(batch.read.sum()) == int((tokens.lengths - 1).sum())


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_the_loss_is_that_of_each_pair_alone(tokens, family):
    model = MODELS[family].tiny(vocab_size=TOKENIZER.vocab_size, decoder_start_token_id=9).eval()
    packer = OBJECTIVE.packer(tokens, 20, seed=0)
    batch = OBJECTIVE.batch([packer.served(number) for number in range(packer.rows_per_epoch)], [0] * packer.rows_per_epoch)
    wanted = 0.0
    for prompt, answer in PAIRS:
        target = torch.tensor([*TOKENIZER.encode(answer), TOKENIZER.eos_id])
        ids = torch.cat([torch.tensor([9]), target[:-1]])[None]  # the model's own token opens an answer
        source = torch.tensor([[*TOKENIZER.encode(prompt), TOKENIZER.eos_id]])
        wanted = wanted + F.cross_entropy(model(ids, source_BS=source)[0], target, reduction="sum")
    torch.testing.assert_close(OBJECTIVE.loss_sum(model, batch), wanted, rtol=1e-4, atol=1e-3)


def test_pairs_that_do_not_fit_are_counted_and_named(tokens):
    longest = max(len(TOKENIZER.encode(part)) + 1 for pair in PAIRS for part in pair)
    OBJECTIVE.check(tokens, longest)
    with pytest.raises(BadInput, match=rf"of 5 pairs.*has {longest}.*p\.jsonl:\d.*--row_tokens {longest}"):
        OBJECTIVE.check(tokens, longest - 1)
    assert np.all(tokens.lengths - 1 <= OBJECTIVE.reads(longest))
