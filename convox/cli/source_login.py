"""The login for the registry that an image comes from: who may say it, and how.

Reference: convox/convox pkg/cli/builds.go, resolveSrcCredsPass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convox.errors import UsageError

if TYPE_CHECKING:
    from buildkit_client.oci import CredentialsProvider
    from convox.cli.context import CliContext

MAX_PASSWORD_BYTES = 64 << 10


def read_password(cx: CliContext, plain: str | None, env_name: str | None, *, stdin: bool) -> str:
    """Return the password that was given in one of three ways, empty when in none; no error will show it.

    Args:
        cx: Of the command.
        plain: Value of ``--src-creds-pass``; others can read it in the list of processes, so there is a warning.
        env_name: Value of ``--src-creds-pass-env``.
        stdin: Whether ``--src-creds-pass-stdin`` is there.

    Raises:
        UsageError: It was given in more than one way, or there is nothing where it should be.
    """
    if (bool(plain), bool(env_name), stdin).count(True) > 1:
        raise UsageError(
            "at most one of --src-creds-pass, --src-creds-pass-env, --src-creds-pass-stdin may be specified"
        )
    password = ""
    if plain:
        cx.console.notice(
            "WARNING: --src-creds-pass shows the password to everyone who may list processes; use"
            " --src-creds-pass-env NAME or --src-creds-pass-stdin instead"
        )
        password = plain
    elif env_name:
        password = cx.settings.environ.get(env_name, "")
        if not password:
            raise UsageError(f"--src-creds-pass-env={env_name}: environment variable not set")
    elif stdin:
        line = cx.stdin.readline(MAX_PASSWORD_BYTES)
        password = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not password:
            raise UsageError("--src-creds-pass-stdin: no input received")
    if password:
        cx.secrets.append(password)
    return password


def source_credentials(
    source: str, user: str | None, password: str, others: CredentialsProvider
) -> CredentialsProvider:
    """Return logins for the registries that images come from.

    Args:
        source: The image that the login is for; it goes to that image's registry and to no other.
        user: The user's name; None where no login was given.
        password: The password; empty where no login was given.
        others: Logins for all else, and for this registry where no login was given.

    Raises:
        UsageError: Only one of user and password was given.
        OptionError: ``source`` is no image reference.
    """
    from buildkit_client.oci import (  # noqa: PLC0415
        ChainCredentials,
        Credentials,
        DockerHubCredentials,
        Reference,
        StaticCredentials,
    )

    if bool(user) != bool(password):
        missing = "--src-creds-pass-env or --src-creds-pass-stdin" if user else "--src-creds-user"
        raise UsageError("a user name and its password are only of use together", hint=f"give {missing} as well")
    if not user:
        return others
    reference = Reference.parse(source)
    if reference.domain == "docker.io":
        return ChainCredentials(DockerHubCredentials(user, password, source="--src-creds-user"), others)
    login = {reference.registry_host: Credentials(user, password)}
    return ChainCredentials(StaticCredentials(login, source="--src-creds-user"), others)
