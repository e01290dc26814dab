"""What an exporter sends into a file of ours."""

from __future__ import annotations

import os
import stat

import pytest

from buildkit_client._proto import filesync_pb2
from buildkit_client.session.call import CallCancelledError
from buildkit_client.session.filesend import FileReceiver
from tests.support.calls import MemoryCall


def call_with(data):
    return MemoryCall().deliver(filesync_pb2.BytesMessage(data=data).SerializeToString()).half_close()


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "out.tar"
    path.write_bytes(b"old")
    path.chmod(mode)
    FileReceiver(path)(call_with(b"new"))
    assert (path.read_bytes(), mode_of(path)) == (b"new", mode)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        FileReceiver(tmp_path / "out.tar")(call_with(b"new"))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "out.tar") == 0o640


def test_a_link_stays_and_its_file_keeps_its_mode(tmp_path):
    path = tmp_path / "real.tar"
    path.write_bytes(b"old")
    path.chmod(0o600)
    (tmp_path / "out.tar").symlink_to("real.tar")
    FileReceiver(tmp_path / "out.tar")(call_with(b"new"))
    assert (tmp_path / "out.tar").is_symlink()
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)


def test_a_file_that_does_not_come_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "out.tar"
    path.write_bytes(b"old")
    call = MemoryCall().deliver(filesync_pb2.BytesMessage(data=b"ne").SerializeToString())
    call.cancel()
    with pytest.raises(CallCancelledError):
        FileReceiver(path)(call)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.tar"]
