import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from danlu.data import raw
from danlu.data.decode import Unreadable
from danlu.data.plan import plan
from danlu.data.raw import Bad, Opened
from danlu.data.readers import READERS
from danlu.data.sources import Found


def read(path, name, limit=1_000_000, shard_bytes=32_000_000, **settings):
    reader = READERS.build(READERS[name].Config(**settings))
    shards = plan([Found("s", path.name, path.name, str(path), name)], {}, shard_bytes)
    return [item for shard in shards for piece in shard.pieces for item in reader.read(Opened(piece), limit)]


def texts(items):
    return [item.text for item in items if not isinstance(item, Bad)]


def bad(items):
    return [(item.line, item.reason) for item in items if isinstance(item, Bad)]


def test_text_by_file_line_and_paragraph(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo\n\n\n丹 three\nfour".encode())
    assert texts(read(path, "txt")) == ["one\ntwo\n\n\n丹 three\nfour"]
    assert texts(read(path, "txt", unit="line")) == ["one", "two", "丹 three", "four"]
    assert [(item.text, item.line) for item in read(path, "txt", unit="paragraph")] == [("one\ntwo", 1), ("丹 three\nfour", 5)]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "gb18030"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_encodings_and_archives_are_transparent(tmp_path, codec, packed):
    text = "第一行是的\n第二行也是这样的。\n"
    data = text.encode(codec)
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[packed]
    path = tmp_path / f"a.txt{packed}"
    path.write_bytes(pack(data))
    assert texts(read(path, "txt")) == [text]
    assert texts(read(path, "txt", unit="line")) == text.split("\n")[:2]


def test_a_damaged_archive_says_so(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"text " * 9000)[:-20])
    with pytest.raises(Unreadable, match=r"damaged \.gz"):
        read(path, "txt")


@pytest.mark.parametrize("text", ["word " * 3000, "丹" * 9000, "a\n\nb\n" * 2000, "x" * 7000, "e\u0301" * 5000])
def test_long_documents_are_cut_without_loss(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text)
    parts = read(path, "txt", limit=1000)
    assert "".join(texts(parts)) == text
    assert all(len(part) <= 1000 for part in texts(parts))
    assert [part.continued for part in parts] == [False] + [True] * (len(parts) - 1)
    assert [part.line for part in parts] == [1 + "".join(texts(parts[:at])).count("\n") for at in range(len(parts))]


def test_large_files_are_shared_out_at_line_ends_and_nothing_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("danlu.data.plan.BLOCK_BYTES", 1024)
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"document {n} 丹" + "x" * (n % 300)}, ensure_ascii=False) + "\n" for n in range(500))
    )
    whole, shared = read(path, "jsonl"), read(path, "jsonl", shard_bytes=5000)
    assert whole == shared
    text = tmp_path / "b.txt"
    text.write_text("".join(f"line {n}\n" for n in range(3000)))
    assert read(text, "txt", unit="line") == read(text, "txt", unit="line", shard_bytes=5000)
    parts = read(text, "txt", shard_bytes=5000)
    assert "".join(texts(parts)) == text.read_text() and sum(not part.continued for part in parts) == 1


def test_broken_json_lines_cost_only_themselves(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "one"}\n{"text": "tw\n\n'
        b'{"body": "x"}\n[1]\n{"text": 7}\n\xff\xfe\xfa{"text": "bytes"}\n{"text": "two", "licence": "MIT"}'
    )
    found = read(path, "jsonl")
    assert texts(found) == ["one", "two"]
    assert [line for line, _ in bad(found)] == [2, 4, 5, 6, 7]
    assert "no field 'text'; it has body" in dict(bad(found))[4]
    assert [item.licence for item in found if not isinstance(item, Bad)] == ["", "MIT"]


def test_a_line_too_long_for_a_record_is_passed_over_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "LINE_BYTES", 5000)
    monkeypatch.setattr(raw, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(raw, "SAMPLE_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "' + "x" * 20_000 + '"}\n{"text": "two"}\n{"text": "' + "y" * 9000)
    found = read(path, "jsonl")
    assert texts(found) == ["one", "two"]
    assert [line for line, _ in bad(found)] == [2, 4]


def test_json_arrays_are_read_element_by_element(tmp_path):
    path = tmp_path / "a.json"
    rows = [{"text": f"document {n} 丹炉", "title": f"t{n}"} for n in range(7)]
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=2))
    assert texts(read(path, "json")) == [row["text"] for row in rows]
    assert texts(read(path, "json", text="title,text"))[0] == "t0\n\ndocument 0 丹炉"
    path.write_text('[{"lines": ["one", "two"]}, {"lines": []}, {"lines": ["one", 2]}]')
    assert texts(read(path, "json", text="lines")) == ["one\ntwo"]
    assert [line for line, _ in bad(read(path, "json", text="lines"))] == [2, 3]
    path.write_text(json.dumps(rows))
    path.write_text('[{"text": "one"}, {"text": 3}, {"text": "two"}, {"text": oops}, {"text": "lost"}]')
    found = read(path, "json")
    assert texts(found) == ["one", "two"]
    assert [line for line, _ in bad(found)] == [2, 4]


def test_a_json_file_may_hold_lines_but_not_one_spread_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert texts(read(path, "json")) == ["one", "two"]
    path.write_text('{\n  "text": "one"\n}\n')
    assert bad(read(path, "json")) == [(1, "neither an array of objects nor one object a line")]


def test_csv_rows_may_span_lines_but_a_stray_quote_costs_only_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'id,text\n1,plain\n2,"two\nlines, quoted ""so"""\n3,5" disk\n4,"stray\n5,after\n6,"again\n7,short,row,long\n8,last\n'
    )
    found = read(path, "csv")
    assert texts(found) == ["plain", 'two\nlines, quoted "so"', '5" disk', "after", "last"]
    assert bad(found) == [
        (6, "a quotation mark opens and does not close"),
        (8, "a quotation mark opens and does not close"),
        (9, "4 fields where 2 are expected"),
    ]


def test_two_stray_quotes_that_look_like_a_pair_swallow_no_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,"stray\n2,kept\n3,kept too\n4,ends here"\n5,"a, true\n\nfield, of\nthree lines"\n')
    found = read(path, "csv")
    assert texts(found) == ["kept", "kept too", 'ends here"', "a, true\n\nfield, of\nthree lines"]
    assert [line for line, _ in bad(found)] == [2]


def test_tsv_takes_quotes_as_letters(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('label\ttext\n1\t"open\n0\tnever "closed\n1\tx\ty\n')
    found = read(path, "tsv")
    assert texts(found) == ['"open', 'never "closed']
    assert bad(found) == [(4, "3 fields where 2 are expected")]
    assert texts(read(path, "tsv", text="1", header=False)) == ["label", "1", "0"]


def test_parquet_reads_a_column_and_names_those_there_are(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None, "two"], "licence": ["MIT", "MIT", None]}), path)
    found = read(path, "parquet")
    assert texts(found) == ["one", "two"] and bad(found)[0][0] == 2
    with pytest.raises(Unreadable, match="it has text, licence"):
        read(path, "parquet", text="body")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Unreadable, match="not a whole Parquet file"):
        read(path, "parquet")


def test_code_keeps_its_white_space_and_leaves_minified_and_generated_files(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f():\n\treturn 'ﬁ'   \n\n\n\n\nx = 1\n")
    (found,) = read(path, "code")
    assert found.text == path.read_text() and found.language == "python"
    path.write_text("x=1;" * 1000)
    with pytest.raises(Unreadable, match="minified"):
        read(path, "code")
    path.write_text("# Generated by tool. DO NOT EDIT\nx = 1\n")
    with pytest.raises(Unreadable, match="made by a program"):
        read(path, "code")
    assert len(read(path, "code", generated=True)) == 1
