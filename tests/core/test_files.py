"""Files appear whole or not at all."""

import errno
import os

import pytest

from danlu.core import files
from danlu.core.errors import NoSpace


def test_a_file_written_atomically_holds_the_text_and_leaves_nothing_beside_it(tmp_path):
    files.write_text(tmp_path / "deep" / "炉.txt", "火\n")
    assert (tmp_path / "deep" / "炉.txt").read_text(encoding="utf-8") == "火\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["炉.txt"]


def test_its_rights_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    files.write_text(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_error_inside_keeps_the_old_file_and_leaves_no_trace(tmp_path, failure):
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(failure), files.atomic(tmp_path / "a") as file:
        file.write("new")
        raise failure
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_forbidden_disk_is_said_so(tmp_path, monkeypatch, reason):
    def full(handle):
        raise OSError(reason, os.strerror(reason))

    files.write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match=r"cannot write .*a: .*GB free there.*same command again"):
        files.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_trouble_keeps_its_own_name(tmp_path):
    with pytest.raises(IsADirectoryError), files.writing(tmp_path):
        raise IsADirectoryError(errno.EISDIR, "is a directory")


def test_sha256_agrees_with_a_published_vector(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, example B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_free_room_is_known_for_places_that_do_not_exist_yet(tmp_path):
    assert files.free_bytes(tmp_path / "not" / "yet") > 0
    files.need_bytes(tmp_path / "not" / "yet", 1, "a byte")
    with pytest.raises(NoSpace, match=r"the moon needs about 1000000000.00 GB .* Nothing was written"):
        files.need_bytes(tmp_path, 10**18, "the moon")


def test_syncing_a_tree_touches_every_kind_of_entry(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    files.sync_tree(tmp_path)
    assert (tmp_path / "folder" / "file").read_text() == "x"
