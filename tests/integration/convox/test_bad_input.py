"""What can be wrong with a build: one clear error, the documented exit code, a record that says why, a log."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from convox.models import BuildStatus
from tests.integration.convox.conftest import ONE_SERVICE, MakeApp
from tests.integration.convox.harness import Convox, write_app
from tests.support.certificates import Authority
from tests.support.fake_registry import FakeRegistry, Fault
from tests.support.services import Services

pytestmark = pytest.mark.services


def check_failure(convox: Convox, folder: Path, *, code: int, what: str, why: str = "", hint: str = "") -> str:
    """Build, and check the error, the record and the log.

    Args:
        convox: The command.
        folder: The app's folder.
        code: The exit code.
        what: Regular expression for what follows ``ERROR: ``.
        why: The same for the cause; empty where the error says it.
        hint: The same for what to try.

    Returns:
        All of stderr.
    """
    result = convox.run("build", str(folder), "-a", "app")
    assert result.code == code, result.stderr
    more = r"(?:       .*\n)*"
    pattern = rf"^ERROR: (?:{what})\n"
    pattern += rf"  why: (?:{why})\n{more}" if why else rf"(?:  why: .*\n{more})?"
    pattern += rf"  try: (?:.*\n       )*(?:{hint})\n{more}" if hint else rf"(?:  try: .*\n{more})?"
    assert re.search(rf"{pattern}\Z", result.stderr, re.MULTILINE), f"{pattern}\n{result.stderr}"
    assert result.stderr.count("ERROR: ") == 1
    assert "Build: " not in result.stdout

    record = convox.build("app")
    assert record.status is BuildStatus.FAILED
    assert record.ended is not None
    assert record.release == ""
    assert re.search(why or what, record.reason, re.MULTILINE), record.reason
    log = convox.log("app", record.id)
    assert log.endswith(f"ERROR: {record.reason}\n")
    last_line = convox.ok("builds", "info", record.id, "-a", "app").stdout.partition("Reason       ")[2]
    assert last_line.split() == record.reason.split()
    return result.stderr


class TestManifest:
    @pytest.mark.parametrize(
        ("text", "what", "why", "hint"),
        [
            pytest.param(None, "no such file: convox.yml", ".*/app has none", ".* write a convox.yml .*", id="missing"),
            pytest.param("services:\n  web: [\n", "convox.yml:3: not valid YAML", ".+", "", id="not YAML"),
            pytest.param("services: \x00\n", "convox.yml:1: not valid YAML", ".*U.0000.*", "", id="control"),
            pytest.param(
                "services:\n  web:\n    build: 5\n",
                "convox.yml:3: unknown type for service build: int",
                "",
                "",
                id="unknown type",
            ),
            pytest.param(
                "environment:\n  - A=b\n", "convox.yml has no services", "", "a services: section .*", id="no services"
            ),
            pytest.param("", "convox.yml (has no services|is empty)", "", ".*services.*", id="empty"),
            pytest.param(
                "services:\n  Web_1:\n    build: .\n",
                "validation errors:\nconvox.yml:2: service name Web_1 invalid, "
                "must contain only lowercase alphanumeric and dashes",
                "",
                "",
                id="service name",
            ),
            pytest.param(
                "services:\n  web:\n    build: ../elsewhere\n",
                "convox.yml:3: service web: build path ../elsewhere leads outside the app's folder",
                ".+",
                "move what is needed .*",
                id="outside",
            ),
            pytest.param(
                "environment:\n  - DATABASE_URL\nservices:\n  web:\n    build: .\n",
                "required env: DATABASE_URL",
                "service web declares .*",
                "give a value with convox env set DATABASE_URL=VALUE, or .*; "
                "convox build also takes --build-args DATABASE_URL=VALUE",
                id="required env",
            ),
        ],
    )
    def test_manifest(
        self, convox: Convox, tmp_path: Path, *, text: str | None, what: str, why: str, hint: str
    ) -> None:
        folder = write_app(tmp_path / "app", {"Dockerfile": "FROM scratch\n"})
        if text is not None:
            (folder / "convox.yml").write_text(text)
        check_failure(convox, folder, code=1, what=what, why=why, hint=hint)

    def test_folder_that_is_missing(self, convox: Convox, tmp_path: Path) -> None:
        check_failure(
            convox, tmp_path / "nothing", code=1, what="no such (file|folder): .*", hint="name .* folder.*", why=".*"
        )

    def test_folder_that_is_a_file(self, convox: Convox, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        check_failure(convox, tmp_path / "file", code=1, what="cannot read convox.yml|.* is not a folder")


class TestDockerfile:
    def test_missing(self, convox: Convox, tmp_path: Path) -> None:
        folder = write_app(tmp_path / "app", {"convox.yml": ONE_SERVICE})
        check_failure(
            convox,
            folder,
            code=1,
            what="convox.yml:3: service web: no Dockerfile at Dockerfile",
            hint="write a Dockerfile, or name the image with image:",
        )

    def test_syntax_error(self, convox: Convox, make_app: MakeApp) -> None:
        stderr = check_failure(
            convox,
            make_app("RUNN echo\n"),
            code=1,
            what="build failed",
            why=r"service web: dockerfile parse error on line 3: unknown instruction: RUNN \(did you mean RUN\?\)",
            hint="convox builds logs B[A-Z]{10} -a app",
        )
        assert stderr.startswith("Dockerfile:3\n--------------------\n")
        assert "\n   3 | >>> RUNN echo\n" in stderr

    def test_command_that_fails(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        folder = make_app(
            "RUN true\nRUN echo out; echo err >&2; exit 7\nRUN echo never\n",
            manifest="services:\n  web:\n    build: .\n  slow:\n    build: slow\n",
        )
        write_app(folder / "slow", {"Dockerfile": f"FROM {services.base_image}\nENV U={uuid.uuid4()}\nRUN sleep 30\n"})
        started = time.monotonic()
        stderr = check_failure(
            convox,
            folder,
            code=1,
            what="build failed",
            why="service web: RUN echo out; echo err >&2; exit 7 ended with exit code 7",
            hint="convox builds logs B[A-Z]{10} -a app",
        )
        assert time.monotonic() - started < 20, "the other service was not cancelled"
        lines = stderr.splitlines()
        assert lines[:2] == ["Dockerfile:4", "--------------------"]
        assert lines[2:7] == [
            "   2 |     " + (folder / "Dockerfile").read_text().splitlines()[1],
            "   3 |     RUN true",
            "   4 | >>> RUN echo out; echo err >&2; exit 7",
            "   5 |     RUN echo never",
            "   6 |     ",
        ]
        log = convox.log("app", convox.build("app").id)
        assert re.search(r"^web \| #\d+ \d+\.\d+ out$", log, re.MULTILINE)
        assert re.search(r"^web \| #\d+ \d+\.\d+ err$", log, re.MULTILINE)
        assert "never\n" not in log.replace("RUN echo never", "")

    def test_hint_names_the_rack_that_was_named(self, convox: Convox, make_app: MakeApp) -> None:
        convox.ok("rack", "install", "local", "other")
        result = convox.run("build", str(make_app("RUN exit 1\n")), "-a", "app", "-r", "other")
        found = re.search(r"  try: convox (builds logs B[A-Z]{10} -a app -r other)\n", result.stderr)
        assert found is not None, result.stderr
        assert "ERROR: " in convox.ok(*found[1].split()).stdout

    def test_file_that_is_not_there_to_copy(self, convox: Convox, make_app: MakeApp) -> None:
        check_failure(
            convox,
            make_app("COPY nothing /\n"),
            code=1,
            what="build failed",
            why='service web: .*"/nothing": not found',
            hint="check the path; .*",
        )

    def test_base_image_that_is_not_there(self, services: Services, convox: Convox, tmp_path: Path) -> None:
        image = f"{services.registry}/{uuid.uuid4().hex}:none"
        folder = write_app(tmp_path / "app", {"convox.yml": ONE_SERVICE, "Dockerfile": f"FROM {image}\n"})
        check_failure(
            convox,
            folder,
            code=1,
            what="build failed",
            why=f"service web: .*{re.escape(image)}: not found",
            hint="check the image's name and tag",
        )


@contextmanager
def speaking(answer: bytes, *, hang_up: bool = True) -> Iterator[int]:
    """Listen on a port and answer whoever comes with some bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        streams = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    stream, _ = server.accept()
                    streams.append(stream)
                    if answer:
                        stream.sendall(answer)
                    if hang_up:
                        stream.recv(4096)
                        stream.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for stream in streams:
                stream.close()


SET_BUILDER = "convox rack params set builder=.*"
SET_TLS = "convox rack params set tls_ca=.*"


class TestBuilder:
    @pytest.fixture
    def app(self, make_app: MakeApp) -> Path:
        return make_app()

    def test_nothing_there(self, convox: Convox, app: Path, tmp_path: Path) -> None:
        convox.environ["BUILDKIT_HOST"] = f"unix://{tmp_path}/none.sock"
        check_failure(
            convox,
            app,
            code=3,
            what=f"cannot reach buildkitd at unix://{tmp_path}/none.sock",
            why="there is no socket .*",
            hint=SET_BUILDER,
        )
        convox.set_params(builder="tcp://127.0.0.1:1")
        check_failure(
            convox, app, code=3, what="cannot reach buildkitd at tcp://127.0.0.1:1", why=".*refused", hint=SET_BUILDER
        )

    def test_none_of_several(self, convox: Convox, app: Path, tmp_path: Path) -> None:
        convox.set_params(builder=f"unix://{tmp_path}/none.sock,tcp://127.0.0.1:1")
        check_failure(
            convox,
            app,
            code=3,
            what="cannot reach any of the rack's builders",
            why=f"unix://{tmp_path}/none.sock: there is no socket .*",
            hint=SET_BUILDER,
        )
        assert "127.0.0.1 port 1: Connection refused" in convox.build("app").reason

    def test_second_of_several_answers(self, services: Services, convox: Convox, app: Path, tmp_path: Path) -> None:
        convox.set_params(builder=f"unix://{tmp_path}/none.sock,{services.buildkit_host}")
        convox.environ["BUILDKIT_HOST"] = None
        convox.ok("build", str(app), "-a", "app")

    def test_address_that_is_none(self, convox: Convox, app: Path) -> None:
        convox.environ["BUILDKIT_HOST"] = "somewhere"
        check_failure(
            convox, app, code=3, what="'somewhere' is not an address of a buildkitd", why=".+", hint=SET_BUILDER
        )

    @pytest.mark.parametrize(
        ("answer", "hang_up"),
        [
            pytest.param(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", True, id="web server"),
            pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", True, id="ssh"),
            pytest.param(b"\x00\xff\x1b[2J\r\n" * 100, True, id="noise"),
            pytest.param(b"", True, id="hangs up"),
            pytest.param(b"", False, id="silence"),
        ],
    )
    def test_port_that_speaks_something_else(self, convox: Convox, app: Path, answer: bytes, hang_up: bool) -> None:
        with speaking(answer, hang_up=hang_up) as port:
            convox.set_params(builder=f"tcp://127.0.0.1:{port}")
            started = time.monotonic()
            what = f"cannot reach buildkitd at tcp://127.0.0.1:{port}"
            stderr = check_failure(convox, app, code=3, what=what, why=".+", hint=SET_BUILDER)
            assert time.monotonic() - started < 20
        assert "\x1b" not in stderr


class TestTls:
    @pytest.fixture
    def tls(self, services: Services) -> tuple[str, Path]:
        if services.tls_addr is None or services.tls_dir is None:
            pytest.skip("the services' buildkitd has no TLS address")
        return services.tls_addr, services.tls_dir

    def test_right_files(self, convox: Convox, make_app: MakeApp, tls: tuple[str, Path]) -> None:
        address, folder = tls
        files = {f"tls_{name}": str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
        convox.set_params(builder=address, **files)
        convox.ok("build", str(make_app()), "-a", "app")

    @pytest.mark.parametrize("kind", ["none", "no client certificate", "wrong CA", "wrong client", "no PEM", "gone"])
    def test_wrong_files(
        self, convox: Convox, make_app: MakeApp, tls: tuple[str, Path], tmp_path: Path, kind: str
    ) -> None:
        address, folder = tls
        other = Authority(tmp_path, "other")
        cert, key = other.issue("client")
        ca = folder / "ca.pem"
        own = {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
        params: Mapping[str, str]
        why, params = {
            "none": ("the port speaks TLS.*|it closed the connection.*", {}),
            "no client certificate": ("the daemon asks for a client certificate", {"tls_ca": str(ca)}),
            "wrong CA": ("the daemon's certificate is signed by a CA .*", {"tls_ca": str(other.path), **own}),
            "wrong client": (
                "the daemon refused .*",
                {"tls_ca": str(ca), "tls_cert": str(cert), "tls_key": str(key)},
            ),
            "no PEM": (".+", {"tls_ca": str(folder / "key.pem"), **own}),
            "gone": ("No such file or directory", {"tls_ca": str(other.path), **own}),
        }[kind]
        convox.set_params(builder=address, **params)
        if kind == "gone":
            other.path.unlink()
        what = "cannot read the TLS file .*" if kind == "gone" else f"cannot reach buildkitd at {address}"
        stderr = check_failure(convox, make_app(), code=3, what=what, why=why, hint=SET_TLS)
        # The gRPC library has a word on each of these, too; nobody should see it.
        assert stderr.startswith("ERROR: ")


def refusal(code: str, message: str) -> bytes:
    """A registry's error, as the distribution specification has it."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


UPLOADS, IMAGE = "/blobs/uploads", r"/manifests/web\.B"


class TestRegistry:
    def test_wants_a_login(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        for host in (services.registry_htpasswd, services.registry_token):
            convox.set_params(registry=host)
            check_failure(
                convox,
                make_app(),
                code=4,
                what="build failed",
                why=f"service web: .*{host}.* (401 Unauthorized|wants a login.*)",
                hint="convox rack params set registry_username=… registry_password=….*",
            )

    def test_refuses_the_login(self, services: Services, convox: Convox, make_app: MakeApp) -> None:
        for host in (services.registry_htpasswd, services.registry_token):
            convox.set_params(registry=host, registry_username="docker", registry_password="not-this-one")
            stderr = check_failure(
                convox,
                make_app(),
                code=4,
                what="build failed",
                why=f"service web: .*{host}.*",
                hint="convox rack params set registry_username=… registry_password=….*",
            )
            assert "not-this-one" not in stderr

    def test_is_gone(self, convox: Convox, make_app: MakeApp) -> None:
        convox.set_params(registry="127.0.0.1:1")
        check_failure(
            convox,
            make_app(),
            code=5,
            what="build failed",
            why=r"service web: failed to push 127\.0\.0\.1:1/app:web\..*connection refused",
            hint="check the host and port, .*",
        )

    def test_has_no_such_host(self, convox: Convox, make_app: MakeApp) -> None:
        convox.set_params(registry="registry.invalid")
        check_failure(
            convox, make_app(), code=5, what="build failed", why="service web: failed to push .*", hint="check .*"
        )

    @pytest.mark.buildkit(">=0.22")  # older daemons leave out what the registry said
    @pytest.mark.parametrize(
        ("method", "path", "status", "body", "code", "why"),
        [
            ("POST", UPLOADS, 403, refusal("DENIED", "not for you"), 4, ".*denied: not for you"),
            # The daemon leaves out a text that is the specification's own.
            ("POST", UPLOADS, 403, refusal("DENIED", "requested access to the resource is denied"), 4, ".*: denied"),
            ("PUT", IMAGE, 400, refusal("MANIFEST_INVALID", "none of these here"), 5, ".*none of these here"),
            ("POST", UPLOADS, 405, b"", 5, ".*405 Method Not Allowed"),
        ],
        ids=["denied", "denied as usual", "manifest", "read only"],
    )
    def test_refuses_the_push(
        self,
        convox: Convox,
        make_app: MakeApp,
        *,
        method: str,
        path: str,
        status: int,
        body: bytes,
        code: int,
        why: str,
    ) -> None:
        with FakeRegistry() as registry:
            registry.expect_violations = True
            registry.faults.append(Fault(method, path, count=1000, status=status, body=body))
            convox.set_params(registry=registry.host)
            check_failure(
                convox,
                make_app(),
                code=code,
                what="build failed",
                why=f"service web: failed to push {registry.host}/app:web{why}",
                hint=("convox rack params set registry_username=… .*" if code == 4 else "convox builds logs .*"),
            )

    def test_cache_that_is_refused_is_a_warning(self, convox: Convox, make_app: MakeApp) -> None:
        with FakeRegistry() as registry:
            registry.expect_violations = True
            registry.faults.append(Fault("PUT", "/manifests/web.buildcache", count=1000, status=400))
            convox.set_params(registry=registry.host)
            log = convox.ok("build", str(make_app()), "-a", "app").log
        assert re.search(r"^web \| WARNING: exporting cache to registry failed: .*400 Bad Request", log, re.MULTILINE)

    def test_half_a_login_is_refused_before_anything_happens(self, convox: Convox, make_app: MakeApp) -> None:
        convox.set_params(registry="127.0.0.1:1")
        result = convox.run("rack", "params", "set", "registry_username=somebody")
        if result.code == 0:
            result = convox.run("build", str(make_app()), "-a", "app")
        assert result.code == 1
        assert "registry_password" in result.stderr


class TestPermissions:
    @pytest.fixture
    def plain(self, convox: Convox) -> Convox:
        """The command without root's right to open everything."""
        if os.geteuid() == 0:
            convox.prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        return convox

    @pytest.mark.parametrize(
        ("closed", "what", "why"),
        [
            ("convox.yml", "cannot read .*convox.yml|.*convox.yml.*", ".*[Pp]ermission denied.*"),
            ("Dockerfile", "convox.yml:3: service web: Dockerfile .*", ".*[Pp]ermission denied.*"),
            ("sub", "build failed", "service web: cannot read sub of the build context: Permission denied"),
            ("sub/file", "build failed", "service web: cannot read sub/file of the build context: Permission denied"),
        ],
    )
    def test_what_cannot_be_read(self, plain: Convox, make_app: MakeApp, closed: str, what: str, why: str) -> None:
        folder = make_app("COPY . /all\n", sub__file="x")
        (folder / closed).chmod(0)
        try:
            check_failure(plain, folder, code=1, what=what, why=why)
        finally:
            (folder / closed).chmod(0o755)

    def test_folder_that_cannot_be_entered(self, plain: Convox, make_app: MakeApp) -> None:
        folder = make_app()
        folder.chmod(0)
        try:
            check_failure(plain, folder, code=1, what=".+", why=".*[Pp]ermission denied.*")
        finally:
            folder.chmod(0o755)
