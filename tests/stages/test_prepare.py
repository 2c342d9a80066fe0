"""`danlu prepare` as a whole: same bytes on every engine and after every interruption, and an account of every character."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from danlu.core.errors import BadInput, BadSettings, NoSpace, NoUsableText, OutputExists
from danlu.core.settings import load
from danlu.data.shards import count, read_documents, read_texts
from danlu.data.why import why
from danlu.stages.prepare import Prepare, prepare

WORDS = [
    *("the", "of", "and", "to", "in", "is", "it", "that", "was", "for", "on", "as", "with", "he", "be", "at", "by", "his", "not"),
    *(
        "river",
        "mountain",
        "winter",
        "letter",
        "garden",
        "window",
        "silver",
        "kitchen",
        "morning",
        "journey",
        "captain",
        "whisper",
    ),
    *("this", "but", "from", "they", "have", "all", "or", "which", "one", "were", "lantern", "harbour"),
]
HAN = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后"


def sentence(rng, words=30):
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def chinese(rng, letters=60):
    return "".join(rng.choices(HAN, k=letters)) + "。"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder of everything: two languages, code, copies, near copies, broken lines, binary, one long book."""
    rng = random.Random(0)
    folder = tmp_path / "raw"
    (folder / "code").mkdir(parents=True)
    docs = ["\n\n".join(sentence(rng) for _ in range(4)) for _ in range(23)] + [
        "\n".join(chinese(rng) for _ in range(5)) for _ in range(19)
    ]
    near = docs[3].replace("river", "stream", 1)
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in (*docs, docs[0], near, docs[30], "short", "  ")]
    (folder / "rows.jsonl").write_text("\n".join([*rows[:5], '{"text": broken', *rows[5:]]) + "\n")
    (folder / "book.txt").write_text("\n\n".join(sentence(rng, 50) for _ in range(400)))
    (folder / "old.txt").write_bytes("\n".join(chinese(rng) for _ in range(7)).encode("gb18030"))
    (folder / "noise.bin").write_bytes(os.urandom(999))
    (folder / "fake.txt").write_bytes(b"\x00\x01\x02\xff" * 300)
    (folder / "code" / "a.py").write_text("import os\n\n\ndef main():\n\treturn os.getcwd()\n")
    monkeypatch.chdir(tmp_path)
    return folder


def run(*words, **settings):
    return prepare(load(Prepare, {"sources": list(map(str, words)), "engine": "sequential", **settings}))


def bytes_of(folder):
    names = sorted(path.name for path in folder.iterdir() if path.name != "lineage.json")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_the_ledger_accounts_for_everything_and_the_files_agree_with_it(sources, tmp_path):
    found = run(sources, out=tmp_path / "out", holdout=0.1, max_document_chars=30_000)
    ledger = json.loads((found.path / "ledger.json").read_text())["total"]["all"]
    for unit in ("documents", "characters", "bytes"):
        came = sum(ledger[row][unit] for row in ("read", "split"))
        assert came == sum(amounts[unit] for row, amounts in ledger.items() if row not in ("read", "split"))
    for split in ("train", "validation"):
        assert count(found.path, split) == ledger[split]
        assert ledger[split]["documents"] > 0
    assert ledger["exact copies"]["documents"] == 2 and ledger["near copies"]["documents"] == 1
    assert ledger["dropped: gopher.words"]["documents"] == 1 and ledger["dropped: empty"]["documents"] == 1
    assert ledger["quarantined"]["documents"] == 2  # a broken line and a file that is no text
    dropped = pq.read_table(found.path / "dropped.parquet").num_rows
    assert dropped == sum(row["documents"] for name, row in ledger.items() if name.startswith(("dropped", "exact", "near")))


def test_documents_know_where_they_came_from_and_splits_share_none(sources, tmp_path):
    found = run(f"all={sources}", out=tmp_path / "out", holdout=0.2, licences=["all:CC0-1.0"])
    train, validation = list(read_documents(found.path)), list(read_documents(found.path, "validation"))
    assert [document.text for document in train] == list(read_texts(found.path))
    assert not {document.id.removesuffix("-end") for document in train} & {d.id for d in validation}
    assert not {document.text for document in train} & {document.text for document in validation}
    assert len({document.id for document in (*train, *validation)}) == len(train) + len(validation)
    (code,) = [document for document in (*train, *validation) if document.path.endswith("a.py")]
    assert code.text == (sources / "code" / "a.py").read_text() and code.language == "python" and code.source == "all"
    assert {document.language for document in train} >= {"en", "zh"} and {document.licence for document in train} == {"CC0-1.0"}
    assert all(document.signals["characters"] > 0 for document in train)
    rows = (sources / "rows.jsonl").read_text().split("\n")
    for document in train[:40]:
        if document.path.endswith("rows.jsonl"):
            assert json.loads(rows[document.line - 1])["text"] == document.text


def test_a_long_document_gives_its_end_to_validation_and_nothing_is_lost(sources, tmp_path):
    text = (sources / "book.txt").read_text()
    found = run(sources / "book.txt", out=tmp_path / "out", holdout=0.05)
    (head,), (tail,) = read_texts(found.path), read_texts(found.path, "validation")
    assert head + tail == text and head.endswith("\n")
    assert 0.02 < len(tail) / len(text) < 0.09
    assert "licence unknown" in (found.path / "README.md").read_text().lower()


@pytest.mark.parametrize("documents", [1, 2, 3])
def test_chance_leaves_something_to_train_on_and_something_to_validate_on(tmp_path, documents):
    """With so few documents chance may choose none, or, as here, all."""
    rng = random.Random(5)
    for number in range(documents):
        (tmp_path / f"{number}.txt").write_text("\n\n".join(sentence(rng, 50) for _ in range(9)))
    found = run(*tmp_path.glob("*.txt"), out=tmp_path / "out", holdout=0.97)
    train, validation = (list(read_documents(found.path, split)) for split in ("train", "validation"))
    assert len(train) == 1 and len(validation) == max(documents - 1, 1)


@pytest.mark.parametrize("engine", [{"name": "processes", "workers": 2}, {"name": "daft"}])
def test_every_engine_writes_the_same_bytes(sources, tmp_path, monkeypatch, engine):
    monkeypatch.setattr("danlu.data.plan.SHARD_BYTES", 8000)
    monkeypatch.setattr("danlu.data.engines.processes._SMALL_BYTES", 0)
    settings = {"holdout": 0.1, "max_document_chars": 20_000}
    oracle = run(sources, out=tmp_path / "one", **settings)
    other = run(sources, out=tmp_path / "two", engine=engine, **settings)
    assert bytes_of(other.path) == bytes_of(oracle.path)
    assert other.id == oracle.id


def test_the_survivor_is_the_same_whatever_the_order_of_work(sources, tmp_path, monkeypatch):
    first = run(sources, out=tmp_path / "one", holdout=0)
    monkeypatch.setattr("danlu.data.plan.SHARD_BYTES", 3000)
    monkeypatch.setattr("danlu.data.measure.BATCH_CHARACTERS", 500)
    second = run(sources, out=tmp_path / "two", holdout=0)

    def content(folder):
        return [document for document in read_documents(folder) if document.path.endswith("rows.jsonl")]

    assert content(first.path) == content(second.path)


def test_a_changed_threshold_judges_again_without_reading_again(sources, tmp_path, monkeypatch):
    first = run(sources, out=tmp_path / "out")

    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("danlu.data.measure.Measurer.measure", refuse)
    strict = run(sources, out=tmp_path / "out", overwrite=True, filters=["length", "gopher:min_words=200", "repetition", "code"])
    assert count(strict.path)["documents"] < first.lineage.metrics["train"]["documents"]
    with pytest.raises(AssertionError, match="measured again"):
        run(sources, out=tmp_path / "out", overwrite=True, editors=["nfkc"])


def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(sources, tmp_path):
    (sources / "more.txt").write_text("\n".join(sentence(random.Random(n), 400) for n in range(60)))
    small = "import danlu.data.plan as p, danlu.cli; p.SHARD_BYTES = 9000; raise SystemExit(danlu.cli.main())"
    command = [sys.executable, "-c", small,
               "prepare", "raw", "-o", "out", "--engine", "sequential"]  # fmt: skip
    for wait_s in (0.7, 1.0, 1.5):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = (tmp_path / "out" / "lineage.json").exists()
        assert finished or not (tmp_path / "out").exists()
        if finished:
            break
    if not (tmp_path / "out").exists():
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    resumed = bytes_of(tmp_path / "out")
    subprocess.run([*command[:-4], "-o", "calm", "--engine", "sequential"], check=True, stderr=subprocess.DEVNULL)
    assert resumed == bytes_of(tmp_path / "calm")


@pytest.mark.parametrize("whole", [False, True])
def test_killed_before_or_after_any_file_appears_the_same_command_ends(sources, tmp_path, monkeypatch, whole):
    class Killed(BaseException):
        """Not an error that anything could catch and tidy up after."""

    monkeypatch.setattr("danlu.data.plan.SHARD_BYTES", 9000)
    replace, left = os.replace, [0]

    def kill_at(source, target):
        left[0] -= 1
        if left[0] or whole:
            replace(source, target)
        if not left[0]:
            raise Killed

    calm = bytes_of(run(sources, out=tmp_path / "calm").path)
    for moment in range(1, 100):
        left[0] = moment
        monkeypatch.setattr(os, "replace", kill_at)
        try:
            run(sources, out=tmp_path / "out", overwrite=True)
        except Killed:
            monkeypatch.setattr(os, "replace", replace)
            assert bytes_of(run(sources, out=tmp_path / "out", overwrite=True).path) == calm
        else:
            break
    assert 5 < moment < 99


def test_why_explains_every_fate(sources, tmp_path):
    found = run(sources, out=tmp_path / "out")
    for row in pq.read_table(found.path / "dropped.parquet").to_pylist():
        text = why(found.path, row["id"])
        assert "dropped" in text and (row["twin"] is None or row["twin"] in text)
        assert row["twin"] is not None or f"{row['threshold']:.4g}" in text
    assert "not read: binary" in why(found.path, "fake.txt") and "no reader for .bin" in why(found.path, "noise.bin")
    assert "line 6: not read" in why(found.path, "raw/rows.jsonl") or "more" in why(found.path, "raw/rows.jsonl")
    assert "kept, in train-00000.parquet" in why(found.path, next(read_documents(found.path)).id)
    assert "nothing of that id or path" in why(found.path, "elsewhere.txt")


def test_the_report_is_one_page_with_the_figures(sources, tmp_path):
    found = run(sources, out=tmp_path / "out")
    page, card = (found.path / "report.html").read_text(), (found.path / "README.md").read_text()
    for said in ("near copies", "repetition.repeated_5_grams", "rows.jsonl"):
        assert said in page or said in card
    lengths, reasons = (
        re.findall(r"<tr><td>([^<]*)</td>.*?<td class=bar>(<i .*?)?</td>", table)
        for table in re.findall(r'<table class="bars">.*?</table>', page)[::-1]
    )
    assert [bar for _, bar in reasons] and all("width:" in bar for _, bar in reasons)
    assert lengths[0][1] and lengths[-1][1]  # the classes begin and end with documents
    assert not re.search(r"""(src|href)=["']https?:|<script|@import|url\(http""", page)
    assert json.loads((found.path / "report.json").read_text())["ledger"] == found.lineage.ledger


def fails(error, match, tmp_path, *words, **settings):
    with pytest.raises(error, match=match):
        run(*words, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_bad_input_is_told_apart_and_leaves_nothing(sources, tmp_path):
    empty, binary, tiny = tmp_path / "empty", tmp_path / "binary", tmp_path / "tiny"
    for folder in (empty, binary, tiny):
        folder.mkdir()
    (binary / "a.txt").write_bytes(bytes(range(256)) * 9)
    (binary / "b.png").write_bytes(b"\x89PNG")
    (tiny / "a.txt").write_text("too short")
    fails(NoUsableText, "folders are empty", tmp_path, empty)
    fails(NoUsableText, "quarantined: 1 documents\n.*zero bytes.*a.txt", tmp_path, binary)
    (binary / "c.jsonl").write_text('{"body": "x", "id": 3}\n' * 5)
    fails(NoUsableText, r"no field 'text'; it has body, id \(5 of them.*c.jsonl, line 1", tmp_path, binary / "c.jsonl")
    fails(NoUsableText, "gopher.words: 1 documents", tmp_path, tiny)
    fails(NoUsableText, "no reader for .png", tmp_path, binary / "*.png")
    fails(BadInput, "no such file", tmp_path, tmp_path / "nowhere")
    fails(BadSettings, "no source is called 'rwa'", tmp_path, sources, licences=["rwa:MIT"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(OutputExists):
        run(sources, out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_huge_single_line_is_read_in_parts(tmp_path):
    line = " ".join(f"{word}{n}" for n, word in enumerate(random.Random(3).choices(WORDS, k=400_000)))
    (tmp_path / "line.txt").write_text(line)
    found = run(tmp_path / "line.txt", out=tmp_path / "out", holdout=0, max_document_chars=100_000, filters=["length"], dedups=[])
    assert " ".join(" ".join(read_texts(found.path)).split()) == line
    assert found.lineage.ledger["total"]["all"]["split"]["documents"] == count(found.path)["documents"] - 1


def test_a_full_disk_is_an_error_that_says_so(sources, tmp_path, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("danlu.data.write.Writer._write_group", full)
    fails(NoSpace, "No space left", tmp_path, sources)
    assert list((tmp_path / "out.run" / "measured").glob("*.parquet")), "what was measured waits for the next attempt"


def test_the_columns_are_those_that_other_stages_rely_on(sources, tmp_path):
    found = run(sources, out=tmp_path / "out")
    schema = pq.read_schema(next(found.path.glob("train-*.parquet")))
    assert schema.names == ["id", "source", "path", "line", "text", "licence", "language", "signals"]
