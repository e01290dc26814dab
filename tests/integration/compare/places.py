"""What the names in braces stand for that all cases share: servers, images, layouts, agents, graphs.

Each is made when the first case asks for it.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from buildkit_client import llb
from tests.integration.compare.case import EPOCH
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.support.services import Services
from tests.support.sockets import wait_until_served
from tests.support.tree import File, Tree, build_tree

_SBOM = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "predicateType": "https://spdx.dev/Document",
    "predicate": {"SPDXID": "SPDXRef-DOCUMENT", "name": "of the tests"},
}
_SCANNER = f"""\
FROM {{base}}
RUN printf '%s' '{json.dumps(_SBOM)}' > /sbom.json && printf '%s\\n' '#!/bin/sh' \
  'cp /sbom.json $BUILDKIT_SCAN_DESTINATION/sbom.spdx.json' \
  'cd $BUILDKIT_SCAN_DESTINATION' 'ls $BUILDKIT_SCAN_SOURCE_EXTRAS 2> /dev/null | while read one' \
  'do [ -z "$BUILDKIT_SCAN_SOURCE_EXTRAS" ] || cp /sbom.json $one.spdx.json; done' \
  > /scan && chmod +x /scan
ENTRYPOINT ["/scan"]
"""
_FRONTEND = r"""
FROM scratch
COPY program /frontend
LABEL moby.buildkit.frontend.network.none="true"
LABEL moby.buildkit.frontend.caps="moby.buildkit.frontend.inputs,\
moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts,moby.buildkit.frontend.gitquerystring"
ENTRYPOINT ["/frontend"]
"""


class Places:
    """Makes what is asked for, once; use it as a context manager, which ends the servers.

    Args:
        services: The daemon and the registries.
        root: Folder for all of it.
    """

    def __init__(self, services: Services, root: Path) -> None:
        self._services = services
        self._root = root
        self._stack = ExitStack()
        self._made: dict[str, str] = {}
        self._making = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, name: str) -> str | None:
        """What a name stands for, or None when it is no name of ours."""
        makers: dict[str, Callable[[], str]] = {
            "agent": self._agent,
            "agentclient": lambda: self._program_image("agentclient", "FROM scratch\nCOPY program /agentclient\n"),
            "base": lambda: self._services.base_image,
            "base_path": lambda: self._services.base_image.partition("/")[2],
            "broken_layout": self._broken_layout,
            "commit": lambda: self._git("rev-parse", "v1^{commit}"),
            "empty": lambda: str(self._folder("empty")),
            "frontend": lambda: self._program_image("frontend", _FRONTEND),
            "git": self._git_daemon,
            "gone_agent": self._gone_agent,
            "htpasswd": lambda: self._services.registry_htpasswd,
            "http": self._http,
            "key": self._key,
            "layout": self._layout,
            "layout_digest": self._layout_digest,
            "login": lambda: self._login(
                self._services.registry_htpasswd, self._services.htpasswd_user, self._services.htpasswd_password
            ),
            "registry": lambda: self._services.registry,
            "scanner": self._scanner,
            "token": lambda: self._services.registry_token,
            "token_login": lambda: self._login(
                self._services.registry_token, self._services.token_user, self._services.token_password
            ),
            "wrong_login": lambda: self._login(self._services.registry_htpasswd, "docker", "wrong"),
        }
        if name not in makers:
            return None
        with self._making:
            if name not in self._made:
                self._made[name] = makers[name]()
            return self._made[name]

    def bytes_of(self, name: str) -> bytes:
        """Bytes for standard input: a graph of ours, or with "go " in front one that Go's package wrote."""
        kind, _, rest = name.partition(" ")
        if kind == "go":
            return subprocess.run(
                [self._go_tool("llb"), "marshal", rest, self._services.base_image], check=True, capture_output=True
            ).stdout
        return GRAPHS[name](self._services.base_image).marshal(platform="linux/amd64").to_bytes()

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        return folder

    def _go_tool(self, name: str) -> Path:
        try:
            return go_tool(name)
        except GoToolMissingError as exc:
            pytest.skip(str(exc))

    def _buildctl(self, folder: Path, *words: str) -> None:
        command: list[str | Path] = [
            self._services.buildctl,
            "build",
            "--frontend=dockerfile.v0",
            f"--local=context={folder}",
        ]
        environ = {**os.environ, "BUILDKIT_HOST": self._services.buildkit_host, "SOURCE_DATE_EPOCH": str(EPOCH)}
        done = subprocess.run(
            [*command, f"--local=dockerfile={folder}", *words], capture_output=True, text=True, env=environ, check=False
        )
        assert done.returncode == 0, done.stderr

    def _image(self, name: str, dockerfile: str, program: Path | None = None) -> str:
        folder = self._folder(f"image-{name}")
        (folder / "Dockerfile").write_text(dockerfile.replace("{base}", self._services.base_image))
        if program is not None:
            shutil.copy(program, folder / "program")
        reference = f"{self._services.registry}/compare/{name}:1"
        self._buildctl(folder, f"--output=type=image,name={reference},push=true")
        return reference

    def _program_image(self, name: str, dockerfile: str) -> str:
        return self._image(name, dockerfile, self._go_tool(name))

    def _scanner(self) -> str:
        return self._image("scanner", _SCANNER)

    def _layout(self) -> str:
        folder = self._root / "layout"
        context = build_tree(
            self._root / "layout-context", {"Dockerfile": b"FROM scratch\nCOPY in-layout /\n", "in-layout": b"i"}
        )
        self._buildctl(context, f"--output=type=oci,tar=false,dest={folder},name=example.com/app:v1")
        return str(folder)

    def _layout_digest(self) -> str:
        self.find("layout")
        return str(json.loads((self._root / "layout/index.json").read_text())["manifests"][0]["digest"])

    def _broken_layout(self) -> str:
        """A layout whose index names an image that it does not have."""
        folder = self._root / "broken"
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{'1' * 64}", "size": 7}
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return str(folder)

    def _repository(self) -> Path:
        bare = self._root / "www/app.git"
        if bare.exists():
            return bare
        work = build_tree(
            self._root / "repository",
            {
                "Dockerfile": b"FROM scratch\nCOPY . /\n",
                "hello": b"first",
                "sub/Dockerfile": b"FROM scratch\nCOPY . /s/\n",
            },
        )
        self._git("init", cwd=work)
        for number, (text, tag) in enumerate((("first", "v1"), ("second", "v2"))):
            (work / "hello").write_text(text)
            self._git("add", ".", cwd=work)
            self._git("commit", "-m", text, cwd=work, date=EPOCH + number)
            self._git("tag", "-a", "-m", tag, tag, cwd=work, date=EPOCH + number)
        self._git("branch", "other", "v1", cwd=work)
        bare.parent.mkdir(exist_ok=True)
        self._git("clone", "--bare", ".", str(bare), cwd=work)
        self._git("update-server-info", cwd=bare)
        return bare

    def _git(self, *words: str, cwd: Path | None = None, date: int = EPOCH) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
        dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), f"{date} +0000")
        done = subprocess.run(
            ["git", *identity, *words], cwd=cwd or self._repository(), env={**os.environ, **dates},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def _git_daemon(self) -> str:
        folder = self._repository().parent
        port = _free_port()
        process = subprocess.Popen(
            ["git", "daemon", "--export-all", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._stack.callback(_end, process)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                break
        return f"git://127.0.0.1:{port}"

    def _http(self) -> str:
        root = self._repository().parent
        tree: Tree = {"Dockerfile": b"FROM scratch\nCOPY hello /\n", "hello": File(b"from an archive", mode=0o640)}
        folder = build_tree(self._root / "archived", tree)
        with tarfile.open(root / "app.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as archive:
            archive.add(folder, ".")
        (root / "page").write_text("page")
        (root / "Alone").write_text("FROM scratch\nLABEL alone=1\n")

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def _key(self) -> str:
        path = self._root / "id_ed25519"
        if shutil.which("ssh-keygen") is None:
            pytest.skip("needs OpenSSH's ssh-keygen")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", path], check=True)
        return str(path)

    def _agent(self) -> str:
        if shutil.which("ssh-agent") is None:
            pytest.skip("needs OpenSSH's agent")
        path = self._root / "agent.sock"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
        self._stack.callback(_end, process)
        wait_until_served(path)
        key = self.find("key")
        assert key is not None
        subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)})
        return str(path)

    def _gone_agent(self) -> str:
        path = self._root / "gone.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        return str(path)

    def _login(self, host: str, user: str, password: str) -> str:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        return json.dumps({"auths": {host: {"auth": secret}}})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


def _files(_base: str) -> llb.State:
    return llb.scratch().file(llb.mkdir("/d", mode=0o700)).file(llb.mkfile("/d/f", b"made", mode=0o640))


def _local(_base: str) -> llb.State:
    source = llb.local("src")
    return llb.scratch().file(llb.copy(source, "/hello", "/copied"))


def _run(base: str) -> llb.State:
    command = ["sh", "-c", "echo -n bar > /out/foo"]
    return llb.image(base).run(command, mounts=[llb.Mount("/out", llb.scratch())]).get_mount("/out")


def _merge(_base: str) -> llb.State:
    return llb.merge([llb.scratch().file(llb.mkfile(f"/{name}", name)) for name in ("a", "b")])


def _diff(base: str) -> llb.State:
    image = llb.image(base)
    return llb.diff(image, image.file(llb.mkfile("/new", b"new")))


GRAPHS: dict[str, Callable[[str], llb.State]] = {
    "files": _files,
    "local": _local,
    "run": _run,
    "merge": _merge,
    "diff": _diff,
}
