"""What fails while building, in convox's words: which service, what to set on the rack, where the whole log is.

The library's errors are made for whoever calls it and name its own options. Here they become the one error of a build.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convox.errors import BuilderError, BuildError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buildkit_client import BuildKitError, ConnectError, OptionError, SolveError

_SHOWN_COMMAND = 200
_STEP_NUMBER = re.compile(r"\[[^\]]*\] ")
_DOCKER_HUB = ("docker.io", "registry-1.docker.io", "auth.docker.io", "index.docker.io")
_SET = "convox rack params set"
_TLS_COMMAND = f"{_SET} tls_ca=FILE tls_cert=FILE tls_key=FILE"


class ImageError(BuildError):
    """An image of the build failed.

    Attributes:
        service: The services it was for, joined by commas.
    """

    def __init__(self, service: str, cause: BuildKitError, *, repository: str) -> None:
        why, hint = _reason(cause, repository)
        super().__init__("build failed", why=f"service {service}: {why}", hint=hint, exit_code=_exit_code(cause))
        self.service = service


def unreachable(errors: Sequence[ConnectError], *, is_named: bool) -> BuilderError:
    """Return the error for a builder that does not answer.

    Args:
        errors: What reaching each address ended with, at least one, in the order they were tried.
        is_named: Whether somebody named the addresses.
    """
    last = errors[-1]
    if len(errors) > 1:
        what = "cannot reach any of the rack's builders"
        why = "\n".join(f"{error.address}: {error.why}" for error in errors)
    else:
        what, why = str(last), last.why
    if last.phase == "tls":
        return BuilderError(what, why=why, hint=f"{_TLS_COMMAND}, with the files for that builder")
    # The library's hint may name options that this command does not have.
    hint = last.hint if is_named and "--" not in last.hint else "start buildkitd there, or name another"
    return BuilderError(what, why=why, hint=f"{hint}\n{_SET} builder=unix:///PATH or builder=tcp://HOST:PORT")


def unusable_tls(error: OptionError) -> BuilderError:
    """Return the error for TLS files that cannot be used."""
    return BuilderError(str(error), why=error.why, hint=_TLS_COMMAND)


def _reason(error: BuildKitError, repository: str) -> tuple[str, str]:
    """Return why an image failed, and what to try."""
    from buildkit_client import SolveError  # noqa: PLC0415 (not needed by every command)

    code = _exit_code(error)
    if isinstance(error, SolveError):
        why = _command_reason(error) or error.details.message
    else:
        why = f"{error}: {error.why}" if error.why else str(error)
    if code is ExitCode.AUTH:
        return why, _login_hint(why, repository) or error.hint
    if "registry.insecure" in error.hint and repository in why:
        return why, f"if that is right, {_SET} registry_insecure=true"
    return why, error.hint


def _command_reason(error: SolveError) -> str:
    """Return which command ended with which exit code, empty when no command failed."""
    if error.exit_code is None or not error.vertex_name:
        return ""
    command = _STEP_NUMBER.sub("", error.vertex_name, count=1)
    if len(command) > _SHOWN_COMMAND:
        command = command[:_SHOWN_COMMAND] + "…"
    return f"{command} ended with exit code {error.exit_code}"


def _login_hint(why: str, repository: str) -> str:
    if any(_names_host(why, host) for host in _DOCKER_HUB):
        return f"{_SET} docker_hub_username=… docker_hub_password=…, with a login that may do this"
    if _names_host(why, repository.split("/", 1)[0]):
        return f"{_SET} registry_username=… registry_password=…, with a login that may do this"
    return ""


def _names_host(text: str, host: str) -> bool:
    """Return whether a text names a host, and not only one whose name begins or ends like it."""
    return re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-]|\.\w|:\d)", text) is not None


def _exit_code(error: BuildKitError) -> ExitCode:
    import buildkit_client as bk  # noqa: PLC0415 (not needed by every command)

    match error:
        case bk.SolveError(kind="auth") | bk.CredentialsError() | bk.RegistryError(status=401 | 403):
            return ExitCode.AUTH
        case bk.SolveError(kind="push") | bk.RegistryError():
            return ExitCode.PUSH
        case bk.ConnectError() | bk.ConnectionLostError():
            return ExitCode.CONNECTION
    return ExitCode.FAILED
