"""Laws of token shards: nothing lost, nothing twice, every token leads back to its line, whole or unfinished."""

from dataclasses import dataclass

import numpy as np
import pytest

from danlu.core.errors import DamagedArtifact, NoSpace, NoUsableText
from danlu.data.tokens import TokenSet, write_tokens


@dataclass(frozen=True)
class Text:
    id: str
    source: str
    path: str
    line: int
    text: str


TEXTS = [
    Text(f"d{i}", "book" if i % 3 else "code", f"f{i % 2}.txt", 10 * i + 1, "é" * (i % 5) + "x" * (7 * i % 11)) for i in range(23)
]


def encode(texts):
    return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) + 2 for text in texts]


def write(folder, texts=TEXTS, part_tokens=50, encode=encode, vocab_size=258):
    return write_tokens(folder, texts, encode, bos_id=0, eos_id=1, vocab_size=vocab_size, part_tokens=part_tokens)


@pytest.mark.parametrize("vocab_size, dtype", [(258, np.uint16), (1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_every_document_is_stored_as_bos_tokens_eos(tmp_path, vocab_size, dtype):
    tokens = write(tmp_path / "t", vocab_size=vocab_size)
    assert tokens.dtype == dtype and len(tokens) == len(TEXTS)
    for index, text in enumerate(TEXTS):
        assert tokens.document(index).tolist() == [0, *encode([text.text])[0].tolist(), 1]
        origin = tokens.origin(index)
        assert (origin.id, origin.source, origin.path, origin.line) == (text.id, text.source, text.path, text.line)
        assert origin.bytes == len(text.text.encode()) == tokens.text_bytes[index]
    assert tokens.tokens == sum(len(text.text.encode()) + 2 for text in TEXTS)


def test_the_ledger_by_source_adds_up(tmp_path):
    tokens = write(tmp_path / "t")
    ledger = tokens.by_source()
    assert sum(row["tokens"] for row in ledger.values()) == tokens.tokens
    assert sum(row["documents"] for row in ledger.values()) == len(TEXTS)
    assert ledger["code"]["bytes"] == sum(len(text.text.encode()) for text in TEXTS if text.source == "code")


def test_an_interrupted_writing_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("danlu.data.tokens._BATCH_CHARACTERS", 20)
    whole = write(tmp_path / "whole")
    seen = []

    def dying(texts):
        seen.extend(texts)
        if len(seen) > 14:
            raise KeyboardInterrupt
        return encode(texts)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", encode=dying)
    with pytest.raises(DamagedArtifact, match="no finished set"):
        TokenSet.open(tmp_path / "cut")
    resumed = []
    again = write(tmp_path / "cut", encode=lambda texts: (resumed.extend(texts), encode(texts))[1])
    assert len(resumed) < len(TEXTS), "what was whole is not made twice"
    assert [again.document(i).tolist() for i in range(len(again))] == [whole.document(i).tolist() for i in range(len(whole))]
    assert again.facts == whole.facts


def test_a_finished_folder_is_opened_not_made_again(tmp_path):
    write(tmp_path / "t")
    again = write(tmp_path / "t", encode=None)
    assert len(again) == len(TEXTS)


def test_no_document_is_an_error_that_leaves_no_set(tmp_path):
    with pytest.raises(NoUsableText, match="no document"):
        write(tmp_path / "t", texts=[])
    assert not (tmp_path / "t" / "tokens.json").exists()


def test_a_part_cut_short_is_found_on_opening(tmp_path):
    write(tmp_path / "t")
    part = tmp_path / "t" / "part-00000.bin"
    part.write_bytes(part.read_bytes()[:-4])
    with pytest.raises(DamagedArtifact, match="tokens on disk"):
        TokenSet.open(tmp_path / "t")


def test_a_full_disk_is_said_and_leaves_the_set_unfinished(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NoSpace, match="run the same command again"):
        write(tmp_path / "t")
    monkeypatch.undo()
    assert not (tmp_path / "t" / "tokens.json").exists()
    assert len(write(tmp_path / "t")) == len(TEXTS)
