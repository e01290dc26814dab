"""Files about a build's result: what is in them, and that they are whole or not there."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from buildkit_client import ExportError
from buildkit_client.result_files import metadata_json, write_whole
from buildkit_client.solve import SolveResult

MANIFEST = f"sha256:{'a' * 64}"
CONFIG = f"sha256:{'b' * 64}"


def test_metadata_is_written_as_the_reference_writes_it() -> None:
    metadata = {"b": "<x>", "a": {"z": 1, "y": ["&"]}}
    assert metadata_json(metadata) == (
        '{\n  "a": {\n    "z": 1,\n    "y": [\n      "\\u0026"\n    ]\n  },\n  "b": "\\u003cx\\u003e"\n}'
    )


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "x"
    write_whole(target, "é")
    write_whole(target, "two")
    assert target.read_text() == "two"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OSError, match="nope"):
        write_whole(tmp_path / "nope" / "x", "text")


def test_an_error_names_the_file_and_leaves_no_other(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "nope" / "x", tmp_path / "folder", Path("/sys/x")):
        with pytest.raises(OSError, match=str(target)) as caught:
            write_whole(target, "text")
        assert caught.value.filename == str(target)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize(
    ("response", "image_id"),
    [
        ({"containerimage.digest": MANIFEST, "containerimage.config.digest": CONFIG}, CONFIG),
        ({"containerimage.digest": MANIFEST}, MANIFEST),
    ],
)
def test_the_id_of_an_image(response: dict[str, str], image_id: str, tmp_path: Path) -> None:
    SolveResult("ref", response).write_image_id(tmp_path / "id")
    assert (tmp_path / "id").read_text() == image_id


def test_no_image_no_id(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("before")
    with pytest.raises(ExportError, match="cannot write") as caught:
        SolveResult("ref").write_image_id(tmp_path / "id")
    assert caught.value.why == "the build made no image"
    assert (tmp_path / "id").read_text() == "before"


def test_metadata_in_a_file(tmp_path: Path) -> None:
    descriptor = base64.b64encode(b'{"digest": "x"}').decode()
    result = SolveResult("ref", {"containerimage.digest": MANIFEST, "containerimage.descriptor": descriptor})
    result.write_metadata(str(tmp_path / "m"))
    assert json.loads((tmp_path / "m").read_text()) == {
        "containerimage.descriptor": {"digest": "x"}, "containerimage.digest": MANIFEST,
    }  # fmt: skip
    with pytest.raises(ExportError, match="nope") as caught:
        result.write_metadata(tmp_path / "nope" / "m")
    assert caught.value.why == "No such file or directory"
