"""Sizes and durations that ``prune`` takes, and those that would mean something else on the way to the daemon."""

from __future__ import annotations

import pytest

from buildkit_client import Client, OptionError
from buildkit_client.cli.app import main


@pytest.mark.parametrize("flag", ["keep-storage", "keep-storage-min", "free-storage"])
@pytest.mark.parametrize("value", ["inf", "-Inf", "nan", "1e30"])
def test_a_size_that_is_none(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--addr", "unix:///nope", "prune", f"--{flag}", value]) == 1
    assert capsys.readouterr().err.startswith('error: invalid value "')


def test_a_limit_that_no_message_can_carry() -> None:
    with Client("unix:///nope") as client, pytest.raises(OptionError, match="limit of prune"):
        list(client.prune(keep_duration_s=1e20))
