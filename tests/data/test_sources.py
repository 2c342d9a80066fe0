import pytest

from danlu.core.errors import BadInput
from danlu.data.sources import Found, Passed, expand


def put(folder, **files):
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    put(tmp_path, in__b_DOT_txt=b"b", in__a_DOT_md=b"a", in__sub__c_DOT_py=b"c", in__sub__d_DOT_txt_DOT_gz=b"d")
    put(tmp_path, in__x_DOT_png=b"x", in__node_modules__e_DOT_js=b"e", in__f_DOT_min_DOT_js=b"f", one_DOT_odd=b"o")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(entries, kind):
    return [entry.path for entry in entries if isinstance(entry, kind)]


def test_a_folder_is_read_in_name_order_and_what_is_passed_over_is_said(tree):
    entries = list(expand(["in"], None, tree))
    assert names(entries, Found) == ["in/a.md", "in/b.txt", "in/sub/c.py", "in/sub/d.txt.gz"]
    assert [entry.reader for entry in entries if isinstance(entry, Found)] == ["md", "txt", "code", "txt"]
    reasons = {entry.path: entry.reason for entry in entries if isinstance(entry, Passed)}
    assert list(reasons) == ["in/f.min.js", "in/node_modules", "in/x.png"]
    assert "vendored" in reasons["in/node_modules"] and "no reader for .png" in reasons["in/x.png"]


def test_what_has_no_reader_is_named_by_the_ending_below_its_packing(tree):
    (tree / "in" / "changes.odd.gz").write_bytes(b"")
    reasons = {entry.path: entry.reason for entry in expand(["in"], None, tree) if isinstance(entry, Passed)}
    assert "no reader for .odd" in reasons["in/changes.odd.gz"]


def test_names_globs_and_single_files(tree):
    entries = list(expand(["docs=in/*.txt", "one.odd", str(tree / "in" / "**" / "*.py")], None, tree))
    assert [(entry.source, entry.path, entry.key) for entry in entries] == [
        ("docs", "in/b.txt", "b.txt"), ("one", "one.odd", "one.odd"), ("in", f"{tree}/in/sub/c.py", "sub/c.py"),
    ]  # fmt: skip


def test_two_sources_never_share_a_name_and_a_file_is_read_once(tree):
    entries = list(expand(["in", "in/b.txt", "in"], None, tree))
    assert {entry.source for entry in entries} == {"in", "b", "in-2"}
    again = [entry for entry in entries if isinstance(entry, Passed) and "the same file as in/b.txt" in entry.reason]
    assert [entry.source for entry in again] == ["b", "in-2"]


def test_a_forced_reader_reads_everything(tree):
    assert {entry.reader for entry in expand(["in"], "txt", tree) if isinstance(entry, Found)} == {"txt"}


def test_links_to_nowhere_are_passed_over(tree):
    (tree / "in" / "z.txt").symlink_to("nowhere")
    assert "not a regular file" in {e.path: e.reason for e in expand(["in"], None, tree) if isinstance(e, Passed)}["in/z.txt"]


@pytest.mark.parametrize(
    ("word", "says"),
    [("on.odd", "Did you mean one.odd"), ("*.nothing", "no file has such a name"), ("no/where", "does not exist either")],
)
def test_a_word_that_means_nothing_is_an_error_with_a_hint(tree, word, says):
    with pytest.raises(BadInput, match=says):
        list(expand([word], None, tree))


def test_addresses_are_fetched_once_and_keep_their_names(tree):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/a.txt", b"remote a")
    files.pipe("/bucket/sub/b.txt", b"remote b")
    for _ in range(2):
        entries = list(expand(["far=memory://bucket", "memory://bucket/a.txt"], None, tree / "fetched"))
        assert [(entry.source, entry.key) for entry in entries] == [("far", "a.txt"), ("far", "sub/b.txt"), ("a", "a.txt")]
    assert (tree / "fetched").is_dir()


@pytest.mark.parametrize("address", ["nosuch://x/y", "memory://empty/place"])
def test_addresses_that_cannot_be_read_say_what_to_do(tree, address):
    with pytest.raises(BadInput, match=r"cannot be read here|nothing is there|no answer"):
        list(expand([address], None, tree))
