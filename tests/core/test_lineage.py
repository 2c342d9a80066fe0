"""From an artefact back to the raw file."""

import shutil

import pytest

from danlu.core import files, lineage
from danlu.core.artifact import publish
from danlu.core.errors import NotAnArtifact
from danlu.core.settings import Settings


def make(out, text, inputs):
    with publish(out, kind=out.name, stage="make", settings=Settings(), inputs=inputs, overwrite=True) as draft:
        files.write_text(draft.path / "text", text)
    return draft.result


def three_generations(folder):
    (folder / "raw.txt").write_text("老子")
    raw = lineage.raw_input("source", folder / "raw.txt")
    dataset = make(folder / "dataset", "1", [raw])
    tokenizer = make(folder / "tokenizer", "2", [dataset.as_input("dataset")])
    return make(folder / "model", "3", [dataset.as_input("dataset"), tokenizer.as_input("tokenizer")])


def walk(path):
    return [
        (depth, source.role if source else None, record.kind if record else None) for depth, source, record in lineage.trace(path)
    ]


def test_the_walk_goes_back_to_the_raw_file_through_every_parent(tmp_path):
    model = three_generations(tmp_path)
    assert walk(model.path) == [
        (0, None, "model"),
        (1, "dataset", "dataset"), (2, "source", None),
        (1, "tokenizer", "tokenizer"), (2, "dataset", "dataset"), (3, "source", None),
    ]  # fmt: skip
    raw = next(source for depth, source, _ in lineage.trace(model.path) if depth == 2)
    assert raw.bytes == 6 and raw.id == f"sha256:{files.sha256(tmp_path / 'raw.txt')}"


def test_a_parent_that_was_made_again_is_not_taken_for_the_one_used(tmp_path):
    model = three_generations(tmp_path)
    make(tmp_path / "tokenizer", "other", [])
    assert (1, "tokenizer", None) in walk(model.path)
    assert (1, "dataset", "dataset") in walk(model.path)


def test_a_lost_parent_ends_the_walk_there_only(tmp_path):
    model = three_generations(tmp_path)
    shutil.rmtree(tmp_path / "dataset")
    assert walk(model.path) == [
        (0, None, "model"), (1, "dataset", None), (1, "tokenizer", "tokenizer"), (2, "dataset", None)
    ]  # fmt: skip


def test_the_record_reads_back_as_it_was_written(tmp_path):
    record = three_generations(tmp_path).lineage
    assert lineage.Lineage.model_validate_json(lineage.dump(record)) == record
    assert lineage.read(tmp_path / "model") == record


def test_the_code_version_names_the_package():
    assert lineage.code_version()["danlu"] not in ("", "unknown")


def test_a_folder_of_artefacts_names_them(tmp_path):
    three_generations(tmp_path)
    with pytest.raises(NotAnArtifact, match="Artefacts in it: dataset, model, tokenizer"):
        lineage.read(tmp_path)


def test_what_tells_people_about_an_artefact_does_not_change_its_id(tmp_path):
    def made(**texts):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, text in texts.items():
            (folder / name.replace("_", ".")).write_text(text)
        return lineage.identify(lineage.list_outputs(folder))

    first = made(weights_bin="w", README_md="took 5 s", report_html="5 s")
    assert made(weights_bin="w", README_md="took 9 s", report_html="9 s") == first
    assert made(weights_bin="v", README_md="took 5 s", report_html="5 s") != first
    assert made(report_html="5 s") != made(report_html="9 s"), "a report has nothing else"
