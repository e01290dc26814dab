"""The library's errors in convox's words."""

from __future__ import annotations

import pytest

from buildkit_client import (
    BuildKitError,
    ConnectError,
    ConnectionLostError,
    ContextError,
    CredentialsError,
    OptionError,
    RegistryError,
    SolveError,
)
from buildkit_client.errors import SolveErrorKind, StatusDetails
from convox.build_errors import ImageError, unreachable, unusable_tls
from convox.errors import ExitCode

REPOSITORY = "registry.example.com:5000/team/app"
RACK_LOGIN = "convox rack params set registry_username=… registry_password=…, with a login that may do this"
HUB_LOGIN = "convox rack params set docker_hub_username=… docker_hub_password=…, with a login that may do this"


def solve_error(
    message: str, kind: SolveErrorKind = "other", *, step: str = "", code: int | None = None, hint: str = ""
) -> SolveError:
    details = StatusDetails(message=message, exit_code=code)
    return SolveError(message, details=details, kind=kind, vertex_name=step, hint=hint)


def image_error(cause: BuildKitError) -> ImageError:
    error = ImageError("web", cause, repository=REPOSITORY)
    assert str(error) == "build failed"
    assert error.why.startswith("service web: ")
    return error


class TestCommand:
    @pytest.mark.parametrize(
        ("step", "shown"),
        [
            ("[3/4] RUN make -j [x] y", "RUN make -j [x] y"),
            ("[stage-1 2/3] RUN make", "RUN make"),
            ("RUN make", "RUN make"),
            ("[1/1] RUN " + "x" * 300, "RUN " + "x" * 196 + "…"),
        ],
    )
    def test_names_the_command(self, step: str, shown: str) -> None:
        error = image_error(solve_error('process "/bin/sh -c make" did not …', "run", step=step, code=7))
        assert error.why == f"service web: {shown} ended with exit code 7"
        assert error.exit_code is ExitCode.FAILED

    def test_without_a_step_it_says_what_the_builder_said(self) -> None:
        error = image_error(solve_error("dockerfile parse error on line 2", "dockerfile"))
        assert error.why == "service web: dockerfile parse error on line 2"


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (solve_error("x", "auth"), ExitCode.AUTH),
        (solve_error("x", "push"), ExitCode.PUSH),
        (solve_error("x", "pull"), ExitCode.FAILED),
        (solve_error("x", "connection"), ExitCode.FAILED),
        (CredentialsError("x"), ExitCode.AUTH),
        (RegistryError("x", status=401), ExitCode.AUTH),
        (RegistryError("x", status=403), ExitCode.AUTH),
        (RegistryError("x", status=500), ExitCode.PUSH),
        (ConnectionLostError("x"), ExitCode.CONNECTION),
        (ConnectError("x"), ExitCode.CONNECTION),
        (ContextError("x"), ExitCode.FAILED),
    ],
)
def test_exit_code(cause: BuildKitError, code: ExitCode) -> None:
    assert image_error(cause).exit_code is code


def test_cause_of_other_errors_is_part_of_the_reason() -> None:
    error = image_error(ContextError("cannot read sub", why="Permission denied", hint="make it readable"))
    assert error.why == "service web: cannot read sub: Permission denied"
    assert error.hint == "make it readable"


class TestLoginHint:
    @pytest.mark.parametrize(
        ("message", "hint"),
        [
            ("failed to push registry.example.com:5000/team/app:web.B: 401 Unauthorized", RACK_LOGIN),
            ("registry registry.example.com:5000 wants a login", RACK_LOGIN),
            ("HEAD https://registry.example.com:5000/v2/: 401", RACK_LOGIN),
            ("failed to resolve source metadata for docker.io/acme/private:latest: denied", HUB_LOGIN),
            ("registry registry-1.docker.io refused the login", HUB_LOGIN),
            ("docker.io.evil.example/acme: 401", "its own"),
            ("my-docker.io/acme: 401", "its own"),
            ("registry.example.com:50001/x: 401", "its own"),
            ("other.registry.example.com:5000/x: 401", "its own"),
            ("ghcr.io/x: 401", "its own"),
        ],
    )
    def test_names_the_params_of_the_host(self, message: str, hint: str) -> None:
        assert image_error(solve_error(message, "auth", hint="its own")).hint == hint

    def test_only_for_logins(self) -> None:
        assert image_error(solve_error("docker.io/acme: not found", "pull", hint="its own")).hint == "its own"


def test_registry_without_tls_is_a_param() -> None:
    library = "mark the registry as http in the daemon's configuration, or push with registry.insecure=true"
    own = image_error(solve_error(f"failed to push {REPOSITORY}:x: http", "push", hint=library))
    assert own.hint == "if that is right, convox rack params set registry_insecure=true"
    other = image_error(solve_error("failed to resolve other.example/x", "pull", hint=library))
    assert other.hint == library


class TestUnreachable:
    def error(self, address: str = "unix:///x", phase: str = "connect", hint: str = "start it") -> ConnectError:
        return ConnectError(
            f"cannot reach buildkitd at {address}", address=address, phase=phase, why=f"no {address}", hint=hint
        )

    def test_one(self) -> None:
        error = unreachable([self.error()], is_named=True)
        assert str(error) == "cannot reach buildkitd at unix:///x"
        assert error.why == "no unix:///x"
        assert error.hint == "start it\nconvox rack params set builder=unix:///PATH or builder=tcp://HOST:PORT"
        assert error.exit_code is ExitCode.CONNECTION

    def test_several(self) -> None:
        error = unreachable([self.error("unix:///x"), self.error("tcp://y:1")], is_named=True)
        assert str(error) == "cannot reach any of the rack's builders"
        assert error.why == "unix:///x: no unix:///x\ntcp://y:1: no tcp://y:1"

    def test_options_of_other_commands_are_not_named(self) -> None:
        hint = "start buildkitd, or name another daemon with --addr"
        for is_named in (True, False):
            assert "--" not in unreachable([self.error(hint=hint)], is_named=is_named).hint

    def test_tls(self) -> None:
        hint = unreachable([self.error(phase="tls", hint="give --tlscacert")], is_named=True).hint
        assert hint.startswith("convox rack params set tls_ca=FILE tls_cert=FILE tls_key=FILE")

    def test_files(self) -> None:
        error = unusable_tls(OptionError("cannot read the TLS file /x", why="No such file"))
        assert (str(error), error.why, error.exit_code) == (
            "cannot read the TLS file /x",
            "No such file",
            ExitCode.CONNECTION,
        )
        assert error.hint.startswith("convox rack params set tls_ca=")
