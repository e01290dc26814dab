"""Images to and from registries that only the builder can reach: every kind comes, and none goes under another digest.

The registries' name is known to the daemon alone. What is in them is looked at under their address.
"""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from buildkit_client import Client, ConnectError, ImageExporter, RawFrontend
from buildkit_client.errors import (
    BlobNotFoundError,
    BuildKitError,
    DigestChangedError,
    LayoutError,
    OptionError,
    RegistryError,
)
from buildkit_client.image_relay import open_registry, pull_image, push_image
from buildkit_client.oci import (
    Credentials,
    Descriptor,
    Digest,
    ImageLayout,
    Platform,
    Reference,
    RegistryClient,
    StaticCredentials,
    TransferProgress,
)
from buildkit_client.oci import pull_image as pull_directly
from buildkit_client.oci import push_image as push_directly
from tests.support.images import add_image, add_platforms
from tests.support.only_builder import HOST, only_builder, only_builder_daemon
from tests.support.own_buildkitd import OwnBuildkitd
from tests.support.services import Services
from tests.support.threads import no_thread_stays

pytestmark = [pytest.mark.services, pytest.mark.buildkit(">=0.28")]


class _TokenRegistry(http.server.BaseHTTPRequestHandler):
    """A registry whose token server nobody reaches."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Www-Authenticate", f'Bearer realm="https://tokens.{HOST}:1/token",service="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def token_registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TokenRegistry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def daemon(services: Services, token_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBuildkitd]:
    registries = [services.registry, services.registry_htpasswd, services.registry_token, token_registry]
    with only_builder_daemon(services, tmp_path_factory.mktemp("relay"), registries) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: OwnBuildkitd) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout.create(tmp_path / "layout")


@pytest.fixture
def repository() -> str:
    return f"relay/{uuid.uuid4().hex[:12]}"


def direct(services: Services, repository: str, tag: str = "t") -> Descriptor:
    """Return what a registry has, asked without the builder."""
    return RegistryClient(services.registry).get_manifest(Reference.parse(f"{services.registry}/{repository}:{tag}"))[0]


BUILT = {
    "gzip": {},
    "docker": {"oci_media_types": False},
    "zstd": {"oci_media_types": True, "compression": "zstd", "force_compression": True},
    "uncompressed": {"compression": "uncompressed", "force_compression": True},
    "annotated": {"oci_media_types": True, "annotations": {"a.b": "<c>", "annotation-manifest[linux/amd64].q": "r"}},
}


def build(
    services: Services, folder: Path, name: str, dockerfile: str, attrs: dict[str, str], **exporter: object
) -> None:
    (folder / "Dockerfile").write_text(dockerfile)
    with Client(services.buildkit_host) as client:
        client.solve(
            RawFrontend("dockerfile.v0", attrs),
            local_dirs={"context": folder, "dockerfile": folder},
            exporters=[ImageExporter(name=name, push=True, **exporter)],  # type: ignore[arg-type]
        )


def there_and_back(
    services: Services, client: Client, layout: ImageLayout, repository: str
) -> tuple[Descriptor, Descriptor]:
    """Pull an image, push it to another repository, and return what is in the two."""
    pulled = pull_image(client, f"{only_builder(services.registry)}/{repository}:t", layout)
    for part in layout.walk(pulled):
        b"".join(layout.read_blob(part.digest, part.size_bytes))
    push_image(client, layout, pulled, [f"{only_builder(services.registry)}/{repository}/copy:t"])
    return direct(services, repository), direct(services, f"{repository}/copy")


@pytest.mark.parametrize("kind", BUILT)
def test_what_buildkit_made_keeps_its_digest(
    services: Services, client: Client, layout: ImageLayout, repository: str, tmp_path: Path, kind: str
) -> None:
    dockerfile = f'FROM {services.base_image}\nRUN echo {uuid.uuid4()} > /x\nENV A="<&>" B=é\nENTRYPOINT ["/x"]\n'
    build(services, tmp_path, f"{services.registry}/{repository}:t", dockerfile, {}, **BUILT[kind])
    before, after = there_and_back(services, client, layout, repository)
    assert after == before


@pytest.mark.parametrize("is_oci", [True, False])
def test_several_platforms(
    services: Services, client: Client, layout: ImageLayout, repository: str, tmp_path: Path, is_oci: bool
) -> None:
    notes = {"annotation-index.a": "b", "annotation-manifest[linux/arm/v7].c": "d"} if is_oci else {}
    build(
        services, tmp_path, f"{services.registry}/{repository}:t", "FROM scratch\nCOPY Dockerfile /\n",
        {"platform": "linux/arm64,linux/amd64,linux/arm/v7"}, oci_media_types=is_oci, annotations=notes,
    )  # fmt: skip
    before, after = there_and_back(services, client, layout, repository)
    assert after == before
    one = pull_image(
        client, f"{only_builder(services.registry)}/{repository}:t", layout, platform=Platform.parse("linux/arm64")
    )
    assert one.digest in [entry.digest for entry in layout.read_manifest(before).children]


@pytest.mark.parametrize("is_artifact", [True, False])
def test_attestations_come_but_do_not_go(
    services: Services, client: Client, layout: ImageLayout, repository: str, tmp_path: Path, is_artifact: bool
) -> None:
    build(
        services, tmp_path, f"{services.registry}/{repository}:t", "FROM scratch\nCOPY Dockerfile /\n",
        {"attest:provenance": "mode=max"}, oci_artifact=is_artifact, oci_media_types=True,
    )  # fmt: skip
    with pytest.raises(DigestChangedError) as caught:
        there_and_back(services, client, layout, repository)
    assert "attestations" in caught.value.why
    assert list(layout.walk(direct(services, repository)))
    assert RegistryClient(services.registry).list_tags(Reference.parse(f"{services.registry}/{repository}")) == ["t"]


def test_what_others_made_comes_but_does_not_go(
    services: Services, client: Client, layout: ImageLayout, repository: str, tmp_path: Path
) -> None:
    """An index without an image for this machine, whose manifests nobody would write so; and nothing is sent."""
    made = ImageLayout.create(tmp_path / "made")
    name = Reference.parse(f"{services.registry}/{repository}:t")
    registry = RegistryClient(services.registry)
    for image in (add_platforms(made), add_image(made, [b"x"])):
        push_directly(registry, made, image, name)
        assert pull_image(client, f"{only_builder(services.registry)}/{repository}@{image.digest}", layout) == image
    with pytest.raises(DigestChangedError) as caught:
        push_image(client, layout, image, [f"{only_builder(services.registry)}/{repository}/copy:t"])
    assert str(caught.value) == f"image {image.digest} cannot be pushed through the builder as it is"
    assert caught.value.why.endswith("its config is written differently")
    with pytest.raises(RegistryError) as gone:
        direct(services, f"{repository}/copy")
    assert gone.value.status == 404


def test_only_what_is_missing_comes(services: Services, client: Client, layout: ImageLayout, repository: str) -> None:
    image = add_image(layout, [b"one", os.urandom(3 << 20)])
    push_directly(
        RegistryClient(services.registry), layout, image, Reference.parse(f"{services.registry}/{repository}:t")
    )
    big = layout.read_manifest(image).children[-1]
    layout.delete_blob(big.digest)
    seen: list[TransferProgress] = []
    pull_image(client, f"{only_builder(services.registry)}/{repository}:t", layout, on_progress=seen.append)
    assert {one.digest for one in seen if not one.is_skipped} == {big.digest}
    assert seen and max(one.current for one in seen if one.digest == big.digest) == big.size_bytes


def test_only_what_is_missing_goes(
    services: Services,
    client: Client,
    layout: ImageLayout,
    repository: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A layer is read once for the first push; not for the second, to where it is; and never by the builds before."""
    # What the builder reads must not be in its cache, so another one has built it.
    build(
        services,
        tmp_path,
        f"{services.registry}/{repository}:t",
        f"FROM scratch\nCOPY Dockerfile /\nLABEL x={uuid.uuid4()}\n",
        {},
    )
    name = f"{services.registry}/{repository}:t"
    image = pull_directly(RegistryClient(services.registry), Reference.parse(name), layout)
    read: list[Digest] = []
    opened = ImageLayout.open_blob

    def open_blob(self: ImageLayout, digest: Digest, offset: int = 0) -> BinaryIO:
        read.append(digest)
        return opened(self, digest, offset)

    monkeypatch.setattr(ImageLayout, "open_blob", open_blob)
    layer = layout.read_manifest(image).children[1].digest
    push_image(client, layout, image, [f"{only_builder(services.registry)}/{repository}/copy"], by_digest=True)
    assert read.count(layer) == 1
    push_image(client, layout, image, [f"{only_builder(services.registry)}/{repository}/copy:t"])
    assert read.count(layer) == 1
    assert direct(services, f"{repository}/copy") == image


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_logins_come_from_the_session(
    services: Services,
    client: Client,
    layout: ImageLayout,
    repository: str,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token server is one that we would not ask: its address is no secured one of the registry's host."""
    monkeypatch.setenv("BUILDKIT_NO_CLIENT_TOKEN", "true")
    host, user, password = {
        "basic": (services.registry_htpasswd, services.htpasswd_user, services.htpasswd_password),
        "token": (services.registry_token, services.token_user, services.token_password),
    }[kind]
    build(services, tmp_path, f"{services.registry}/{repository}:t", "FROM scratch\nCOPY Dockerfile /\n", {})
    image = pull_image(client, f"{only_builder(services.registry)}/{repository}:t", layout)
    login = StaticCredentials({only_builder(host): Credentials(user, password)})
    name = f"{only_builder(host)}/{repository}:t"
    push_image(client, layout, image, [name], credentials=login)
    again = ImageLayout.create(tmp_path / "again")
    assert pull_image(client, name, again, credentials=login) == image
    wrong = StaticCredentials({only_builder(host): Credentials(user, "CANARY-wrong")})
    for attempt in (
        lambda: push_image(client, layout, image, [f"{name}2"], credentials=wrong),
        lambda: pull_image(client, name, ImageLayout.create(tmp_path / "none"), credentials=wrong),
    ):
        with pytest.raises(BuildKitError) as caught:
            attempt()
        assert getattr(caught.value, "status", 401) == 401, caught.value
        shown = f"{caught.value} {caught.value.why} {caught.value.hint} {caught.value!r}"
        assert "CANARY" not in shown and only_builder(host) in shown, shown


def test_a_token_server_out_of_our_reach(client: Client, layout: ImageLayout, token_registry: str) -> None:
    with pytest.raises(RegistryError) as caught:
        pull_image(client, f"{only_builder(token_registry)}/a:b", layout)
    assert "BUILDKIT_NO_CLIENT_TOKEN" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("{registry}/nothing/here:t", 404, "not found"),
        ("{registry}/nothing/here@sha256:" + "0" * 64, 404, "not found"),
        ("nowhere.only-builder.test/a:b", 0, "no such host"),
    ],
)
def test_what_cannot_be_pulled(
    services: Services, client: Client, layout: ImageLayout, name: str, status: int, why: str
) -> None:
    name = name.format(registry=only_builder(services.registry))
    with pytest.raises(RegistryError) as caught:
        pull_image(client, name, layout)
    assert caught.value.status == status and why in caught.value.why, (caught.value.status, caught.value.why)
    assert str(caught.value) == f"cannot pull manifest {name} through the builder"
    assert not list(layout.blobs())


def test_a_layer_that_the_registry_lost(
    services: Services, client: Client, layout: ImageLayout, repository: str
) -> None:
    image = add_image(layout, [uuid.uuid4().bytes])
    config, layer = layout.read_manifest(image).children
    reference = Reference.parse(f"{services.registry}/{repository}:t")
    registry = RegistryClient(services.registry)
    push_directly(registry, layout, image, reference)
    lost = Descriptor(layer.media_type, config.digest, 1)
    with open_registry(client, Reference.parse(f"{only_builder(services.registry)}/{repository}:t")) as relay:
        own = Reference.parse(f"{only_builder(services.registry)}/{repository}:t")
        assert relay.has_blob(own, layer.digest) is True
        assert relay.has_blob(own, lost.digest) is True
        with pytest.raises(RegistryError, match=f"cannot pull blob {config.digest}"):
            list(relay.read_blob(own, lost))
        assert relay.has_blob(own, image.digest.of(b"never")) is False
        with pytest.raises(BlobNotFoundError):
            list(relay.read_blob(own, Descriptor(layer.media_type, image.digest.of(b"never"), 5)))
        assert b"".join(relay.read_blob(own, layer, offset=10)) == b"".join(layout.read_blob(layer.digest))[10:]


def test_what_cannot_be_pushed(services: Services, client: Client, layout: ImageLayout, repository: str) -> None:
    image = add_image(layout, [b"x"])
    layout.delete_blob(layout.read_manifest(image).children[1].digest)
    with pytest.raises(BlobNotFoundError):
        push_image(client, layout, image, [f"{only_builder(services.registry)}/{repository}:t"])
    with pytest.raises(LayoutError):
        push_image(
            client, layout, Descriptor(image.media_type, image.digest, 3), [f"{services.registry}/{repository}:t"]
        )


def test_a_builder_that_is_gone(services: Services, layout: ImageLayout, tmp_path: Path) -> None:
    with Client(f"unix://{tmp_path}/none") as client, pytest.raises(ConnectError):
        pull_image(client, f"{services.registry}/a:b", layout)
    with (
        OwnBuildkitd(services, tmp_path) as daemon,
        no_thread_stays("build-", "session-"),
        Client(daemon.address) as client,
        pytest.raises(BuildKitError) as caught,
        open_registry(client, Reference.parse(services.base_image)) as relay,
    ):
        daemon.kill()
        relay.get_manifest(Reference.parse(services.base_image))
    assert "buildkitd" in f"{caught.value} {caught.value.why}"


def test_a_builder_that_is_too_old(services: Services, layout: ImageLayout, tmp_path: Path) -> None:
    old = services.buildctl.parent.with_name("buildkit-v0.12.5")
    if not (old / "buildkitd").is_file():
        pytest.skip("there is no buildkitd v0.12.5 beside the current one")
    from dataclasses import replace

    with (
        OwnBuildkitd(replace(services, buildctl=old / "buildctl"), tmp_path) as daemon,
        Client(daemon.address) as client,
        pytest.raises(OptionError, match="cannot read an image's blobs") as caught,
    ):
        pull_image(client, services.base_image, layout)
    assert "source.imageblob" in caught.value.why


MEMORY = """
import re, sys
from buildkit_client import Client
from buildkit_client.image_relay import pull_image
from buildkit_client.oci import ImageLayout
from pathlib import Path
with Client(sys.argv[1]) as client:
    pull_image(client, sys.argv[2], ImageLayout.create(Path(sys.argv[3])))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_memory_does_not_depend_on_the_image(
    services: Services, daemon: OwnBuildkitd, layout: ImageLayout, repository: str, tmp_path: Path
) -> None:
    image = add_image(layout, [os.urandom(100 << 20), os.urandom(100 << 20)])
    push_directly(
        RegistryClient(services.registry), layout, image, Reference.parse(f"{services.registry}/{repository}:t")
    )
    name = f"{only_builder(services.registry)}/{repository}:t"
    words = [sys.executable, "-c", MEMORY, daemon.address, name, str(tmp_path / "pulled")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) < 128  # megabytes, half of them for imports
