"""Which raw files a dataset was made of: by content, wherever one stands, and however large files were shared out."""

from pathlib import Path

from danlu.core.lineage import raw_input
from danlu.data import provenance
from danlu.data.plan import plan
from danlu.data.sources import expand


def made(words, tmp_path, shard_bytes=0):
    found = list(expand([str(word) for word in words], None, tmp_path / "fetched"))
    return plan([file for file in found if hasattr(file, "reader")], {}, shard_bytes)


def states(folder, made_from):
    return {path.name: state for _, path, state in provenance.check(folder, made_from)}


def test_a_source_is_its_files_or_its_only_file(tmp_path, monkeypatch):
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, text in (("a.txt", "one\n" * 900), ("b.txt", "two\n"), ("c.md", "three\n")):
        (notes / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    shards = made(["many=notes", "one=notes/../notes/b.txt"], tmp_path)
    (many,) = provenance.inputs(shards)  # b.txt was read already
    assert (many.files, many.bytes, many.path) == (3, 3610, str(notes))
    assert provenance.inputs(made([notes], tmp_path, shard_bytes=500))[0].id == many.id  # shards do not matter
    (only,) = provenance.inputs(made(["notes/b.txt"], tmp_path))
    assert only.files is None and only.id == raw_input("", notes / "b.txt").id and only.path == str(notes / "b.txt")
    provenance.write(tmp_path, shards)
    monkeypatch.chdir("/")
    assert states(tmp_path, [many]) == dict.fromkeys(("a.txt", "b.txt", "c.md"), "verified")
    (notes / "a.txt").write_text("One\n" * 900)
    (notes / "c.md").unlink()
    assert states(tmp_path, [many]) == {"a.txt": "CHANGED", "b.txt": "verified", "c.md": "not here"}
    assert provenance.inputs(made([notes], tmp_path))[0].id != many.id
    assert Path(many.path).is_absolute()
