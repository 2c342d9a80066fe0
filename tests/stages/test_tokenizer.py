"""The tokenizer stage: a dataset in, a tokenizer artefact with report, card, ledger out; or nothing and a clear error."""

import json
import re

import pyarrow as pa
import pytest
from tests.tokenizer.texts import CHINESE, CODE, ENGLISH

import danlu
from danlu.core import lineage
from danlu.core.artifact import open_artifact, publish
from danlu.core.errors import BadSettings, NotAnArtifact, OutputExists, VocabularyTooLarge
from danlu.core.settings import Settings
from danlu.data.shards import ShardWriter, schema
from danlu.tokenizer.tokenizer import Tokenizer


class Made(Settings):
    """Stands for the settings of the stage that made the dataset."""


TEXTS = {"english": ENGLISH, "chinese": CHINESE, "code": CODE}


@pytest.fixture
def dataset(tmp_path):
    """Forty documents a source, and three kept apart."""
    return _dataset(tmp_path / "data")


def _dataset(out, held_out=lambda text: text):
    with publish(out, kind="dataset", stage="prepare", settings=Made()) as draft:
        for split, count in (("train", 40), ("validation", 3)):
            writer, change = ShardWriter(draft.path, split), held_out if split == "validation" else str
            rows = [
                {"id": f"{source}-{at}", "source": source, "path": source, "line": at, "text": change(f"{at}. {text[at:]}"),
                 "licence": "CC0-1.0", "language": "zh" if source == "chinese" else "en", "signals": []}
                for source, text in TEXTS.items() for at in range(1, count + 1)
            ]  # fmt: skip
            writer.write(pa.Table.from_pylist(rows, schema=schema()))
            writer.close()
        draft.licences, draft.sources = ["CC0-1.0"], sorted(TEXTS)
    return draft.result


def test_a_dataset_becomes_a_tokenizer_with_report_card_ledger_and_lineage(dataset, tmp_path):
    made = danlu.tokenizer(dataset=dataset.path, out=tmp_path / "tok", vocab_size=400)
    artifact = open_artifact(tmp_path / "tok", "tokenizer", verify=True)
    assert artifact.id == made.id
    assert [source.id for source in artifact.lineage.inputs] == [dataset.id]
    assert artifact.lineage.licences == ("CC0-1.0",)
    tokenizer = Tokenizer.open(tmp_path / "tok")
    assert tokenizer.vocab_size == 400
    assert tokenizer.decode(tokenizer.encode(CODE + CHINESE)) == CODE + CHINESE

    ledger = artifact.lineage.ledger
    assert ledger["total"]["documents"] == ledger["total"]["used_documents"] == 120
    assert set(ledger["sources"]) == set(TEXTS)
    assert [depth for depth, _, _ in lineage.trace(tmp_path / "tok")] == [0, 1]

    report = json.loads((tmp_path / "tok" / "report.json").read_text())
    assert report["measured_on"] == "validation"
    table = report["compression"]
    assert set(table) == {"all", "language en", "language zh", *(f"source {name}" for name in TEXTS)}
    for unit in ("documents", "bytes", "characters", "tokens"):
        assert table["all"][unit] == sum(table[f"source {name}"][unit] for name in TEXTS)
        assert table["all"][unit] == table["language en"][unit] + table["language zh"][unit]
    assert table["all"]["bytes_per_token"] > 1.5
    assert set(report["patterns"]["bytes_per_token"]) == {"danlu", "gpt2", "gpt4"}
    assert report["curve"][-1] == {"vocab_size": 400, "bytes_per_token": report["bytes_per_token"]}
    page = (tmp_path / "tok" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert re.search("[一-鿿]", page), "Chinese pieces are shown as characters"
    assert f"# Tokenizer {tokenizer.id}" in (tmp_path / "tok" / "README.md").read_text()


def test_auto_takes_what_suits_the_text(dataset, tmp_path):
    assert Tokenizer.open(danlu.tokenizer(dataset=dataset.path, out=tmp_path / "a", compare=False).path).vocab_size <= 512
    assert Tokenizer.open(danlu.tokenizer(dataset=dataset.path, out=tmp_path / "b", trainer="bytes").path).vocab_size == 259


def test_a_scrap_of_held_out_text_is_not_measured_on(tmp_path):
    scrap = _dataset(tmp_path / "data", held_out=lambda text: text[:2])
    danlu.tokenizer(dataset=scrap.path, out=tmp_path / "tok", vocab_size=300, compare=False)
    assert json.loads((tmp_path / "tok" / "report.json").read_text())["measured_on"] == "train"


def test_less_text_than_there_is_can_be_asked_for_and_is_recorded(dataset, tmp_path):
    made = danlu.tokenizer(dataset=dataset.path, out=tmp_path / "tok", vocab_size=300, max_bytes="10kB", compare=False)
    total = made.lineage.ledger["total"]
    assert 0 < total["used_bytes"] <= 10_000
    assert total["documents"] == 120 == total["used_documents"] + total["left_out_documents"]
    assert all(row["used_documents"] for row in made.lineage.ledger["sources"].values())


def test_a_vocabulary_that_the_text_cannot_fill_is_an_error_and_leaves_nothing(dataset, tmp_path):
    with pytest.raises(VocabularyTooLarge, match="--vocab_size"):
        danlu.tokenizer(dataset=dataset.path, out=tmp_path / "tok", vocab_size=50_000)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_wrong_inputs_are_refused_before_any_work(dataset, tmp_path):
    with pytest.raises(NotAnArtifact, match="is not a Danlu artefact"):
        danlu.tokenizer(dataset=tmp_path / "nowhere", out=tmp_path / "tok")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(OutputExists):
        danlu.tokenizer(dataset=dataset.path, out=tmp_path / "full")
    with pytest.raises(BadSettings, match="vocab_size"):
        danlu.tokenizer(dataset=dataset.path, out=tmp_path / "tok", vocab_size=-3)


def test_the_command_line_reads_a_number_and_auto(dataset, tmp_path, capsys):
    from danlu.cli import main

    words = ["tokenizer", str(dataset.path), "-o", str(tmp_path / "tok"), "--trainer.name", "wordpiece", "--quiet"]
    assert main([*words, "--vocab_size", "700"]) == 0
    assert Tokenizer.open(tmp_path / "tok").vocab_size == 700
    assert main([*words, "--vocab_size", "many"]) == 2
    assert "vocab_size" in capsys.readouterr().err
