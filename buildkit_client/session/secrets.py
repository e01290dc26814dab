"""The ``Secrets`` service: steps of a build ask for secrets by id.

Values travel as they are, without any trimming. An id that is not known gets NOT_FOUND, which the daemon takes as
"there is none": it asks for some ids on its own, such as ``GIT_AUTH_TOKEN``.

Reference: session/secrets/secretsprovider/secretsprovider.go, store.go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from buildkit_client._proto import secrets_pb2
from buildkit_client.errors import BuildKitError, OptionError, SecretError
from buildkit_client.options.secrets import SecretCallback, SecretEnv, SecretFile, SecretValue
from buildkit_client.protocol.grpc_status import StatusCode
from buildkit_client.session.call import RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildkit_client.options.secrets import Secret
    from buildkit_client.session.call import Metadata, UnaryHandler

GET_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
MAX_SECRET_BYTES = 500 * 1024  # secretsprovider.go, MaxSecretSize


class SecretsService:
    """Gives out secrets by id, and nothing else.

    Args:
        secrets: Secret by id.
    """

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._secrets = dict(secrets)
        self._errors: list[BuildKitError] = []

    @property
    def errors(self) -> tuple[BuildKitError, ...]:
        """Secrets that could not be read, in order; without their values."""
        return tuple(self._errors)

    def check(self) -> None:
        """Find out, before the build runs, whether every file and variable is there.

        Raises:
            SecretError: One is missing, no file, no bytes, or too large.
            OptionError: One is no secret.
        """
        for secret_id, secret in self._secrets.items():
            match secret:
                case SecretFile():
                    _read_file(secret_id, secret)
                case SecretEnv():
                    _read_variable(secret_id, secret)
                case SecretValue(value):
                    _checked(secret_id, value)
                case SecretCallback():
                    pass  # asked when the build asks
                case _:
                    raise OptionError(
                        f"the secret {secret_id!r} is a {type(secret).__name__}",
                        hint="give a SecretValue, a SecretFile, a SecretEnv or a SecretCallback",
                    )

    def methods(self) -> Mapping[str, UnaryHandler]:
        """Return the handler of ``GetSecret``."""
        return {GET_SECRET: self._get}

    def _get(self, data: bytes, _metadata: Metadata) -> bytes:
        try:
            secret_id = secrets_pb2.GetSecretRequest.FromString(data).ID
        except DecodeError as exc:
            raise RpcError(StatusCode.INVALID_ARGUMENT, "not a GetSecretRequest") from exc
        try:
            value = self._value(secret_id)
        except SecretError as exc:
            self._errors.append(exc)
            raise RpcError(StatusCode.FAILED_PRECONDITION, str(exc)) from exc
        if value is None:
            raise RpcError(StatusCode.NOT_FOUND, f"secret {secret_id} not found")
        return secrets_pb2.GetSecretResponse(data=value).SerializeToString()

    def _value(self, secret_id: str) -> bytes | None:
        match self._secrets.get(secret_id):
            case None:
                return None
            case SecretValue(value):
                return _checked(secret_id, value)
            case SecretFile() as secret:
                return _read_file(secret_id, secret)
            case SecretEnv() as secret:
                return _read_variable(secret_id, secret)
            case SecretCallback(function):
                given = _called(secret_id, function)
                return None if given is None else _checked(secret_id, given)


def _read_file(secret_id: str, secret: SecretFile) -> bytes:
    try:
        with secret.path.open("rb") as file:
            return _checked(secret_id, file.read(MAX_SECRET_BYTES + 1))
    except OSError as exc:
        raise SecretError(
            f"cannot read the secret {secret_id!r}",
            why=f"{secret.path}: {exc.strerror or exc}",
            hint="check the path that the secret is read from",
        ) from exc


def _read_variable(secret_id: str, secret: SecretEnv) -> bytes:
    value = os.environ.get(secret.variable)
    if value is None:
        raise SecretError(
            f"cannot read the secret {secret_id!r}",
            why=f"the environment has no variable {secret.variable!r}",
            hint="set it, also where that is empty",
        )
    return _checked(secret_id, os.fsencode(value))


def _called(secret_id: str, function: Callable[[], bytes | None]) -> bytes | None:
    try:
        return function()
    except SecretError:
        raise
    except Exception as exc:
        # Its words stay with it, as the cause: they may tell the secret, and this error travels to the daemon.
        raise SecretError(
            f"the callback of the secret {secret_id!r} failed", why=f"it raised {type(exc).__name__}"
        ) from exc


def _checked(secret_id: str, value: bytes) -> bytes:
    if not isinstance(value, bytes):
        raise SecretError(
            f"the value of the secret {secret_id!r} is no bytes",
            why=f"it is a {type(value).__name__}",
            hint="encode it",
        )
    if len(value) > MAX_SECRET_BYTES:
        raise SecretError(
            f"the secret {secret_id!r} is too large", why=f"a secret has at most {MAX_SECRET_BYTES} bytes"
        )
    return value
