"""Bad input through the command line: each a clear error or quarantine, the right exit code, and nothing half-written."""

import errno
import json
import random
import shutil

import pytest

from danlu.cli import main
from danlu.core.artifact import open_artifact
from danlu.data.shards import read_texts
from danlu.train import speed
from tests.stages.small_pretrain import flags, pace, settings, write_dataset, write_tokenizer
from tests.tiny import tiny_model, write_tiny

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "have",
    "with",
    "river",
    "winter",
    "letter",
    "garden",
    "window",
    "silver",
    "captain",
]
ENGINE = ["--engine", "sequential"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "measure", lambda threads=None, dtype=None: pace())
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset, a tokenizer and a model, made once."""
    folder = tmp_path_factory.mktemp("made")
    write_dataset(folder / "data")
    write_tokenizer(folder / "tokenizer")
    tiny_model(folder / "model")
    return folder


def tree(folder):
    """Everything below a folder but the work folders, which hold what a repeated command goes on from."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in paths if not any(part.endswith(".run") for part in path.parts))


def refused(here, capsys, code, *words):
    """What a command that must fail says; it says it in one go, and leaves the folder as it was."""
    before = tree(here)
    capsys.readouterr()
    assert main([str(word) for word in words]) == code
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert tree(here) == before
    return said.err


def prose(rng, words=40):
    return " ".join(rng.choices(WORDS, k=words)).capitalize() + "."


def prepared(*words):
    assert main(["prepare", *map(str, words), "-o", "data", *ENGINE, "--dedups=[]", "--holdout=0"]) == 0
    return open_artifact("data", "dataset", verify=True)


def quarantined(dataset):
    lines = (dataset.path / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    return {(note["path"], note["line"]): note["reason"] for note in map(json.loads, lines)}


def test_an_empty_folder(here, capsys):
    (here / "empty").mkdir()
    said = refused(here, capsys, 1, "prepare", "empty", "-o", "data")
    assert "no file to read in empty" in said and "Give files" in said


def test_binary_files(here, capsys):
    (here / "raw").mkdir()
    (here / "raw" / "a.txt").write_bytes(bytes(range(256)) * 9)
    (here / "raw" / "b.png").write_bytes(b"\x89PNG\x00")
    said = refused(here, capsys, 1, "prepare", "raw", "-o", "data", *ENGINE)
    assert "binary: contains zero bytes" in said and "raw/a.txt" in said
    (here / "raw" / "c.txt").write_text(prose(random.Random(0)))
    found = prepared("raw")
    assert "binary" in quarantined(found)["raw/a.txt", 0] and "no reader for .png" in quarantined(found)["raw/b.png", 0]
    assert len(list(read_texts(found.path))) == 1
    assert "1 files or records could not be read" in capsys.readouterr().err


def test_a_huge_single_line_in_bounded_memory(here):
    """20 MB as text, and as a record that is longer than records may be; by hand a line of 1 GB took 0.3 GB (LOG.md)."""
    import resource

    rng = random.Random(1)
    chunk = " ".join(rng.choices(WORDS, k=3000)) + " "
    text = chunk * (20_000_000 // len(chunk))
    (here / "line.txt").write_text(text)
    record = json.dumps({"text": prose(rng)})
    (here / "line.jsonl").write_text('{"text": "' + text * 4 + '"}\n' + record + "\n")  # above what a record may have
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = prepared("line.txt", "line.jsonl", "--max_document_chars=100000", "--filters=length", "--language=none")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    texts = list(read_texts(found.path))
    assert " ".join(" ".join(texts[:-1]).split()) == " ".join(text.split()) and json.loads(record)["text"] == texts[-1]
    assert "a record may have" in quarantined(found)["line.jsonl", 1]
    assert grown < 10 * len(text)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "big5"])
def test_mixed_encodings(here, codec):
    (here / "raw").mkdir()
    chinese = "這是一個例子，我們在這裡說明怎麼讀取不同編碼的文字，大家都可以看到結果。" * 3
    (here / "raw" / "a.txt").write_bytes(chinese.encode(codec))
    (here / "raw" / "b.txt").write_text(prose(random.Random(2)))
    (here / "raw" / "c.txt").write_bytes(chinese.encode("gb18030") + b"\n" + chinese.encode("utf-8") + b"\n\xff\xff\x81")
    found = prepared("raw", "--filters=length")
    assert chinese in list(read_texts(found.path))
    assert list(quarantined(found)) == [("raw/c.txt", 0)]


def test_broken_json_lines(here, capsys):
    good = json.dumps({"text": prose(random.Random(3))})
    (here / "a.jsonl").write_text(f'{good}\n{{"text": "cut\n[1, 2]\n{{"body": "x"}}\n{{"text": 7}}\n')
    found = prepared("a.jsonl")
    assert [line for _, line in quarantined(found)] == [2, 3, 4, 5]
    assert "not JSON at character" in quarantined(found)["a.jsonl", 2]
    assert len(list(read_texts(found.path))) == 1 and "4 files or records" in capsys.readouterr().err
    (here / "b.jsonl").write_text('{"body": "x"}\n' * 3)
    said = refused(here, capsys, 1, "prepare", "b.jsonl", "-o", "other", *ENGINE)
    assert "no field 'text'; it has body (3 of them" in said and "--readers jsonl:text=" in said


def test_a_dataset_smaller_than_one_batch(here, made, capsys):
    words = flags(settings(made, batch_rows=1000, out=here / "model"))
    said = refused(here, capsys, 1, "pretrain", *words)
    assert "24000" in said and "fewer --batch_rows" in said and "training tokens" in said


def test_a_vocabulary_larger_than_the_text_allows(here, made, capsys):
    said = refused(here, capsys, 1, "tokenizer", made / "data", "-o", "tok", "--vocab_size", "60000")
    assert "vocab_size 60000" in said and "Give more text, or --vocab_size" in said


@pytest.mark.parametrize("stage", ["generate", "chat", "evaluate", "export"])
@pytest.mark.parametrize("damage", ["tokenizer", "weights"])
def test_a_model_folder_with_another_tokenizer_or_cut_weights(here, made, capsys, stage, damage):
    write_tiny(here / "m")
    if damage == "tokenizer":
        from danlu.tokenizer.trainers import TRAINERS

        other = TRAINERS.build(TRAINERS["chars"].Config()).train(iter(["abc"]), ["<|endoftext|>"])
        other.save(here / "m")
        expected = ("model embeds 259 tokens but tokenizer.json defines", "Use the tokenizer")
    else:
        path = here / "m" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        expected = ("model.safetensors", "cut short or damaged", "copy them again")
    (here / "t.txt").write_text("text")
    words = {"generate": ["hi"], "evaluate": ["--text", "t.txt", "-o", "r"], "export": ["-o", "x"], "chat": []}[stage]
    said = refused(here, capsys, 1, stage, "m", *words)
    assert all(part in said for part in expected)


@pytest.mark.parametrize("stage", ["prepare", "tokenizer", "pretrain", "evaluate", "export"])
@pytest.mark.parametrize("there", ["artefact", "files of mine"])
def test_an_output_folder_that_exists(here, made, capsys, stage, there):
    if there == "artefact":
        shutil.copytree(made / "model", here / "out")
    else:
        (here / "out").mkdir()
        (here / "out" / "mine").write_text("x")
    (here / "t.txt").write_text("text")
    source = {"prepare": "t.txt", "tokenizer": made / "data", "pretrain": made / "data"}.get(stage, made / "model")
    more = ["--text", "t.txt"] if stage == "evaluate" else []
    said = refused(here, capsys, 2, stage, source, "-o", "out", *more)
    assert "out exists and is" in said and "--overwrite" in said


@pytest.mark.parametrize("stage", ["prepare", "tokenizer", "pretrain", "evaluate", "export"])
def test_no_disk_space(here, made, capsys, monkeypatch, stage):
    (here / "t.txt").write_text(prose(random.Random(4)))
    words = {
        "prepare": ["t.txt", "-o", "out", "--filters=length", *ENGINE], "tokenizer": [made / "data", "-o", "out"],
        "pretrain": flags(settings(made, out=here / "out", steps=2)),
        "evaluate": [made / "model", "--text", "t.txt", "-o", "out"],
        "export": [made / "model", "-o", "out"],
    }[stage]  # fmt: skip

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("danlu.core.files.sync_tree", full)  # the last thing before an artefact takes its name
    said = refused(here, capsys, 1, stage, *words)
    assert "No space left on device" in said and "GB free there" in said and "run the same command again" in said
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(speed, "measure", lambda threads=None, dtype=None: pace())
    assert main([stage, *map(str, words)]) == 0 and open_artifact(here / "out", verify=True)


def test_an_unknown_setting(here, made, capsys):
    said = refused(here, capsys, 2, "pretrain", made / "data", "-o", "m", "--bugdet", "3m", "--optimiser.learnig_rate", "1")
    assert (
        "2 thing(s) to correct" in said and "did you mean budget?" in said and "optimiser.learnig_rate: no such setting" in said
    )
    assert "Did you mean pretrain?" in refused(here, capsys, 2, "pretrian")
    assert "did you mean holdout?" in refused(here, capsys, 2, "prepare", "x", "-o", "y", "--hold_out", "0.1")
    (here / "r.yaml").write_text("filtres: [length]\n")
    assert "did you mean filters?" in refused(here, capsys, 2, "prepare", "x", "-o", "y", "--recipe", "r.yaml")


@pytest.mark.parametrize("budget", ["-3m", "-400k tokens", "0", "-1e16 flops", "soon"])
@pytest.mark.parametrize("stage", ["pretrain", "quickstart"])
def test_a_budget_that_is_none(here, made, capsys, budget, stage):
    words = [made / "data"] if stage == "pretrain" else []
    said = refused(here, capsys, 2, stage, *words, "-o", "m", f"--budget={budget}")
    assert "budget reads like 90s, 3m, 2h" in said and "above zero" in said and budget in said


def test_special_tokens_inside_a_text_stay_text(here, made, capsys):
    text = "before <|endoftext|> between <|im_start|>system and after, with the words that a filter wants to have.\n"
    (here / "t.txt").write_text(text * 3)
    found = prepared("t.txt", "--filters=length")
    assert next(iter(read_texts(found.path))).count("<|endoftext|>") == 3
    assert main(["tokenizer", "data", "-o", "tok", "--compare=false"]) == 0
    from danlu.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.open(here / "tok")
    ids = tokenizer.encode(text)
    assert not set(ids) & set(tokenizer.special_tokens.values()) and tokenizer.decode(ids) == text
    capsys.readouterr()
    assert main(["evaluate", str(made / "model"), "--text", "t.txt", "-o", "r"]) == 0
    figures = json.loads((here / "r" / "report.json").read_text())["models"][0]
    assert figures["tokens"] == len((text * 3).encode()), "every byte was foreseen as a byte, none as a mark"
    assert main(["generate", str(made / "model"), "a<|endoftext|>b", "--max_tokens", "3"]) == 0
