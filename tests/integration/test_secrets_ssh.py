"""Secrets and SSH agents reach the steps that ask for them, with a real daemon."""

from __future__ import annotations

import base64
import os
import re
import shutil
import struct
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from buildkit_client import (
    Client,
    DockerfileFrontend,
    SecretCallback,
    SecretError,
    SecretFile,
    SecretValue,
    SolveError,
    SshAgent,
    SshAgentError,
)
from buildkit_client.options.secrets import SshKeys
from buildkit_client.progress import PlainProgress
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.support.sockets import wait_until_served

CANARY = b"canary-9d1e no newline"


def build(services, context, text, **options):
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(f"FROM {services.base_image}\n{text}\n")
    shown: list[str] = []
    progress = PlainProgress(shown.append)
    with Client(services.buildkit_host) as client:
        client.solve(
            DockerfileFrontend(no_cache=True),
            local_dirs={"context": context, "dockerfile": context},
            on_status=progress.update,
            **options,
        )
    progress.finish()
    return "".join(shown)


def test_secrets_of_every_kind_arrive_byte_for_byte(services, tmp_path):
    (tmp_path / "token").write_bytes(CANARY)
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in ("file", "value", "callback"))
    check = " && ".join(
        f'[ "$(md5sum < /run/secrets/{name})" = "$(printf "canary-9d1e no newline" | md5sum)" ]'
        for name in ("file", "value", "callback")
    )
    shown = build(
        services,
        tmp_path / "context",
        f"RUN {mounts} {check} && [ ! -e /run/secrets/other ] && echo all there",
        secrets={
            "file": SecretFile(tmp_path / "token"),
            "value": SecretValue(CANARY),
            "callback": SecretCallback(lambda: CANARY),
        },
    )
    assert "all there" in shown


def test_a_required_secret_that_is_not_given_fails_the_step(services, tmp_path):
    with pytest.raises(SolveError, match="secret token: not found"):
        build(services, tmp_path / "context", "RUN --mount=type=secret,id=token,required=true cat /run/secrets/token")


def test_an_optional_secret_may_be_missing(services, tmp_path):
    shown = build(
        services, tmp_path / "context", "RUN --mount=type=secret,id=token [ ! -e /run/secrets/token ] && echo went on"
    )
    assert "went on" in shown


def test_a_secret_file_that_is_missing_is_told_before_anything_is_sent(services, tmp_path):
    with pytest.raises(SecretError, match="'token'"):
        build(services, tmp_path / "context", "RUN true", secrets={"token": SecretFile(tmp_path / "none")})


def test_our_error_wins_when_a_secret_breaks_in_the_middle(services, tmp_path):
    def broken() -> bytes:
        return bytes(600_000)

    with pytest.raises(SecretError, match="too large"):
        build(
            services,
            tmp_path / "context",
            "RUN --mount=type=secret,id=token,required=true true",
            secrets={"token": SecretCallback(broken)},
        )


@pytest.fixture
def agent(tmp_path):
    if shutil.which("ssh-agent") is None:
        pytest.skip("needs OpenSSH's agent")
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    wait_until_served(path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)})
    yield path
    process.terminate()
    process.wait()


@pytest.fixture
def context(tmp_path):
    """A context with a program that asks the agent: the base image has no SSH client."""
    try:
        program = go_tool("agentclient")
    except GoToolMissingError as exc:
        pytest.skip(str(exc))
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy(program, context / "ask")
    return context


LIST_KEYS, SIGN, REMOVE_ALL_KEYS = 11, 13, 19
FAILURE, KEYS, SIGNATURE = 5, 12, 14


def test_a_step_lists_the_agents_keys(services, context, agent):
    shown = build(
        services,
        context,
        f"COPY ask /ask\nRUN --mount=type=ssh /ask {LIST_KEYS}",
        ssh={"default": SshAgent(agent)},
    )
    assert f"answer {KEYS} number 1" in shown


def test_a_step_cannot_remove_the_agents_keys(services, context, agent):
    shown = build(
        services,
        context,
        f"COPY ask /ask\nRUN --mount=type=ssh,id=deploy,required=true /ask {REMOVE_ALL_KEYS}",
        ssh={"deploy": SshAgent(agent)},
    )
    assert f"answer {FAILURE} " in shown
    listed = subprocess.run(
        ["ssh-add", "-l"], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, capture_output=True, text=True
    )
    assert "ED25519" in listed.stdout


def test_a_required_agent_that_is_not_given_fails_the_step(services, tmp_path):
    with pytest.raises(SolveError, match="no SSH key"):
        build(services, tmp_path / "context", "RUN --mount=type=ssh,required=true true")


def test_an_agent_that_is_gone_is_told_before_anything_is_sent(services, tmp_path):
    with pytest.raises(SshAgentError, match="'default'"):
        build(services, tmp_path / "context", "RUN true", ssh={"default": SshAgent(tmp_path / "none.sock")})


# -- key files


@pytest.fixture
def keys(tmp_path):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs OpenSSH")
    paths = {}
    for kind, size in (("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "384")):
        paths[kind] = tmp_path / f"id_{kind}"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, "-b", size, "-N", "", "-C", "me@home", "-f", paths[kind]], check=True
        )
    return paths


def answered(shown: str) -> bytes:
    """Return the agent's answer as the program in the step printed it, without its length."""
    return bytes.fromhex(re.search(r"bytes ([0-9a-f]+)", shown)[1])


def test_a_step_sees_the_keys_of_files_as_from_buildctl(services, context, keys):
    step = f"COPY ask /ask\nRUN --mount=type=ssh,required=true /ask {LIST_KEYS}"
    ours = answered(build(services, context, step, ssh={"default": SshKeys(tuple(keys.values()))}))
    done = subprocess.run(
        [services.buildctl, "--addr", services.buildkit_host, "build", "--progress=plain", "--no-cache",
         "--frontend=dockerfile.v0", f"--local=context={context}", f"--local=dockerfile={context}",
         "--ssh", "default=" + ",".join(map(str, keys.values()))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ours == answered(done.stderr)
    assert struct.unpack(">BI", ours[:5]) == (KEYS, 3)
    assert b"me@home" not in ours


def sign_request(public: bytes, data: bytes, flags: int) -> str:
    blob = base64.b64decode(public.split()[1])
    return (struct.pack(">I", len(blob)) + blob + struct.pack(">I", len(data)) + data + struct.pack(">I", flags)).hex()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_step_signs_with_a_key_of_a_file(services, context, keys, kind):
    public = keys[kind].with_suffix(".pub").read_bytes()
    step = f"RUN --mount=type=ssh,id=deploy,required=true /ask {SIGN} {sign_request(public, b'challenge', 4)}"
    shown = build(services, context, f"COPY ask /ask\n{step}", ssh={"deploy": SshKeys((keys[kind],))})
    answer = answered(shown)
    assert answer[0] == SIGNATURE
    length = struct.unpack(">I", answer[5:9])[0]
    algorithm, signature = answer[9 : 9 + length], answer[13 + length :]
    if kind == "rsa":
        assert algorithm == b"rsa-sha2-512"
        load_ssh_public_key(public).verify(signature, b"challenge", padding.PKCS1v15(), SHA512())
    else:
        assert algorithm == b"ssh-ed25519"
        load_ssh_public_key(public).verify(signature, b"challenge")


def test_a_step_cannot_sign_with_a_key_of_another_id(services, context, keys):
    public = keys["ed25519"].with_suffix(".pub").read_bytes()
    step = f"RUN --mount=type=ssh,id=one,required=true /ask {SIGN} {sign_request(public, b'x', 0)}"
    ssh = {"one": SshKeys((keys["rsa"],)), "two": SshKeys((keys["ed25519"],))}
    assert answered(build(services, context, f"COPY ask /ask\n{step}", ssh=ssh)) == bytes([FAILURE])


def test_a_step_cannot_remove_the_keys_of_files(services, context, keys):
    step = f"COPY ask /ask\nRUN --mount=type=ssh /ask {REMOVE_ALL_KEYS}; /ask {LIST_KEYS}"
    shown = build(services, context, step, ssh={"default": SshKeys((keys["ed25519"],))})
    assert f"answer {FAILURE} " in shown
    assert f"answer {KEYS} number 1" in shown


def test_a_key_with_a_passphrase_is_told_before_anything_is_sent(services, tmp_path):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs OpenSSH")
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "canary-passphrase", "-f", path], check=True)
    with pytest.raises(SshAgentError, match="cannot use the SSH key") as caught:
        build(services, tmp_path / "context", "RUN true", ssh={"default": SshKeys((path,))})
    assert caught.value.why == "it has a passphrase"


def test_an_agent_that_goes_away_during_a_step_is_named(services, context, agent):
    (context / "Dockerfile").write_text(
        f"FROM {services.base_image}\nCOPY ask /ask\n"
        f"RUN --mount=type=ssh /ask {LIST_KEYS} && sleep 2 && /ask {LIST_KEYS}\n"
    )

    def on_status(update):
        if any(b"answer" in log.data for log in update.logs):
            agent.unlink(missing_ok=True)

    with Client(services.buildkit_host) as client, pytest.raises(SolveError, match="did not complete") as caught:
        client.solve(
            DockerfileFrontend(context=context, no_cache=True), ssh={"default": SshAgent(agent)}, on_status=on_status
        )
    assert caught.value.kind == "run"
    assert caught.value.why == f"cannot reach the SSH agent 'default': {agent}: No such file or directory"
