"""Secrets as values: given, never shown."""

from pathlib import Path

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import SecretCallback, SecretFile, SecretValue, SshAgent


def test_values_are_not_shown():
    assert "hunter2" not in repr(SecretValue(b"hunter2"))
    assert "function" not in repr(SecretCallback(lambda: b"hunter2"))
    assert repr(SecretFile(Path("/run/secret"))) == f"SecretFile(path={Path('/run/secret')!r})"


def test_agents_are_read_only_unless_asked():
    assert SshAgent(Path("/run/agent")).raw is False
    assert SshAgent(Path("/run/agent"), raw=True).raw is True


def test_values_cannot_be_changed():
    with pytest.raises(AttributeError):
        SecretValue(b"x").value = b"y"


def test_an_agent_needs_a_path():
    with pytest.raises(OptionError) as caught:
        SshAgent("")
    with pytest.raises(OptionError, match="needs the path"):
        SshAgent(Path())
    assert "SSH_AUTH_SOCK" in caught.value.hint
