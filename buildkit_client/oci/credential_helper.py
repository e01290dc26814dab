"""Credential helpers: the programs that keep registry logins outside docker's config file.

A helper is called ``docker-credential-<name>``. Asked with ``get``, it reads one registry's name on stdin and writes
one JSON object with ``Username`` and ``Secret``, or writes a sentence and ends with a code other than 0. Everything
here is bounded: time, output, and what of the output may stand in an error, since it may hold the secret.

Reference: docker-credential-helpers client/client.go (Get), credentials/error.go; docker/cli
cli/config/credentials/native_store.go.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_client.errors import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM_PREFIX = "docker-credential-"  # native_store.go, remoteCredentialsPrefix
NOT_FOUND_TEXT = "credentials not found in native keychain"  # credentials/error.go
MAX_OUTPUT_BYTES = 1 << 20

_POLL_S = 0.1
_SHOWN_CHARS = 200
# Words after which a secret may follow, and texts that are data instead of a sentence.
_SUSPICIOUS = re.compile(
    r"[{}]|secret|passw|token\s*[=:]|bearer|authorization|://[^/\s]*@|[A-Za-z0-9+/_=-]{40}", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class HelperAnswer:
    """What a helper knows about one registry.

    Attributes:
        username: The account, or ``<token>`` when the secret is an identity token; may be empty.
        secret: Password or identity token; may be empty.
    """

    username: str
    secret: str = field(repr=False)


def ask_helper(
    name: str, server: str, *, env: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> HelperAnswer | None:
    """Ask one helper for one registry.

    Args:
        name: The helper's name without prefix, as ``credsStore`` and ``credHelpers`` have it.
        server: What the helper is asked for, a host or Docker Hub's URL; goes to stdin, never into the arguments.
        env: Environment of the helper, its PATH included; None takes this process's.
        timeout_s: The helper is killed, with what it started, when it takes longer.

    Returns:
        The answer, or None when the helper has nothing for this registry.

    Raises:
        CredentialsError: The helper is missing, fails, takes too long or answers with something else than its JSON.
    """
    program = PROGRAM_PREFIX + name
    what = f"credential helper {program} failed for registry {server}"
    if not name or not re.fullmatch(r"[\w.+-]+", name):
        raise CredentialsError(
            f"no credentials for registry {server}",
            host=server,
            why=f"{name[:100]!r} is not the name of a credential helper",
            hint="correct credsStore and credHelpers in docker's config.json",
        )
    try:
        code, output = _run([program, "get"], server.encode(), env, timeout_s)
    except FileNotFoundError as exc:
        raise CredentialsError(
            what,
            host=server,
            why="it is not installed",
            hint=f"install {program}, or remove it from credsStore and credHelpers in docker's config.json",
        ) from exc
    except TimeoutError as exc:
        why = f"it gave no answer within {timeout_s:g} s"
        raise CredentialsError(what, host=server, why=why, hint=_try_by_hand(program)) from exc
    except OSError as exc:
        raise CredentialsError(what, host=server, why=f"it cannot be run: {exc.strerror}") from exc
    if len(output) > MAX_OUTPUT_BYTES:
        raise CredentialsError(what, host=server, why=f"it wrote more than {MAX_OUTPUT_BYTES} bytes")
    if code != 0:
        text = output.decode("utf-8", "replace").strip()
        if text.rpartition("\n")[2].strip() == NOT_FOUND_TEXT:
            return None
        ending = f"it ended with code {code}" if code > 0 else f"signal {-code} ended it"
        said = _presentable(text)
        raise CredentialsError(
            what, host=server, why=f"{ending}: {said}" if said else ending, hint=_try_by_hand(program)
        )
    answer = _parse(output)
    if answer is None:
        raise CredentialsError(
            what,
            host=server,
            why="its output is not one JSON object with Username and Secret",
            hint="a helper that prints debug lines must print them to stderr",
        )
    return answer


def _run(command: list[str], stdin: bytes, env: Mapping[str, str] | None, timeout_s: float) -> tuple[int, bytes]:
    """Run a command and return its exit code and output, at most one byte more than the limit.

    Not ``subprocess.run``: that waits for end of file, which an agent that the helper started may never give, and
    its limit of time does not end what the helper started.
    """
    deadline = time.monotonic() + timeout_s
    output = bytearray()
    # stderr is dropped: it is not part of the protocol and may show anything.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=None if env is None else dict(env),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):  # a helper need not read to the end
            process.stdin.write(stdin)
            process.stdin.close()
        descriptor = process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(output) <= MAX_OUTPUT_BYTES:
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    raise TimeoutError
                ended = process.poll() is not None
                if selector.select(0 if ended else min(remaining_s, _POLL_S)):
                    chunk = os.read(descriptor, 65536)
                    if not chunk:
                        break
                    output += chunk
                elif ended:
                    break
        if len(output) > MAX_OUTPUT_BYTES:
            return 0, bytes(output)
        try:
            return process.wait(max(0.0, deadline - time.monotonic())), bytes(output)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        process.wait()


def _parse(output: bytes) -> HelperAnswer | None:
    """Read the first JSON value of the output; what follows it is ignored, as Go's decoder does."""
    try:
        value, _ = json.JSONDecoder().raw_decode(output.decode("utf-8").lstrip())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    # Go matches field names without regard to case.
    fields = {key.lower(): entry for key, entry in value.items() if entry is not None}
    username, secret = fields.get("username", ""), fields.get("secret", "")
    if not isinstance(username, str) or not isinstance(secret, str) or fields.keys().isdisjoint(("username", "secret")):
        return None
    return HelperAnswer(username, secret)


def _presentable(text: str) -> str:
    """Return the last line of a helper's sentence, or nothing when a secret may be in it."""
    line = text.rpartition("\n")[2].strip()[:_SHOWN_CHARS]
    if _SUSPICIOUS.search(text):
        return ""
    return "".join(char for char in line if char.isprintable())


def _try_by_hand(program: str) -> str:
    return f"run `{program} get` by hand, give it the registry on stdin, and see what it says"
