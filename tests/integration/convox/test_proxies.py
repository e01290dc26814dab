"""Registries that are behind an HTTP proxy, as the environment says; their names resolve nowhere else."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit_client.oci import ImageLayout, Reference, RegistryClient, push_image
from tests.integration.convox.conftest import ONE_SERVICE
from tests.integration.convox.harness import Convox, write_app
from tests.support.certificates import Authority
from tests.support.exports import DiskRack, contents
from tests.support.fake_registry import FakeRegistry
from tests.support.forward_proxy import ForwardProxy
from tests.support.images import add_image
from tests.support.services import Services

pytestmark = pytest.mark.services

HOST = "registry.test"
"""The name is in no DNS."""


@pytest.fixture
def registry(convox: Convox, tmp_path: Path) -> Iterator[FakeRegistry]:
    """A registry with a certificate for the name, which the command trusts, and an image in it."""
    authority = Authority(tmp_path)
    convox.environ["SSL_CERT_FILE"] = str(authority.path)
    with FakeRegistry(tls=authority.issue("registry", hosts=(HOST, "127.0.0.1"))) as registry:
        layout = ImageLayout.create(tmp_path / "layout")
        with RegistryClient(registry.host, insecure=True) as client:
            push_image(client, layout, add_image(layout, [b"one"]), Reference.parse(f"{registry.host}/base:1"))
        yield registry


@pytest.fixture
def proxy(convox: Convox, registry: FakeRegistry) -> Iterator[ForwardProxy]:
    with ForwardProxy(registry.host) as proxy:
        convox.environ |= {"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url}
        yield proxy


def test_an_image_is_imported(convox: Convox, proxy: ForwardProxy, tmp_path: Path) -> None:
    folder = write_app(tmp_path / "app", {"convox.yml": ONE_SERVICE})
    words = ("builds", "import-image", f"{HOST}/base:1", "-a", "app", "-m", str(folder / "convox.yml"))
    convox.ok(*words)
    assert convox.build("app").status == "complete"
    assert set(proxy.asked) == {("CONNECT", f"{HOST}:443")}
    convox.environ["NO_PROXY"] = f"localhost,.{HOST.partition('.')[2]}"
    refused = convox.run(*words)
    assert refused.code == 5
    assert "its name cannot be resolved" in refused.stderr


def test_a_build_is_imported_and_exported(convox: Convox, services: Services, tmp_path: Path) -> None:
    with DiskRack(tmp_path / "source") as rack:
        data = rack.export(rack.add_build({"web": add_image(rack.layout, [b"one"])}))
    (tmp_path / "build.tgz").write_bytes(data)
    host = f"{HOST}:5000"
    convox.set_params(registry=f"{host}/{uuid.uuid4().hex[:12]}", registry_insecure="true")
    with ForwardProxy(services.registry) as proxy:
        convox.environ |= {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url}
        convox.ok("builds", "import", "-f", str(tmp_path / "build.tgz"), "-a", "app")
        build_id = convox.build("app").id
        asked = len(proxy.asked)
        convox.ok("builds", "export", build_id, "-a", "app", "-f", str(tmp_path / "again.tgz"))
        assert len(proxy.asked) > asked > 0
        assert {name for _, name in proxy.asked} == {host}
        convox.ok("builds", "diff", build_id, build_id, "-a", "app")
    assert contents((tmp_path / "again.tgz").read_bytes())["web.tar"] == contents(data)["web.tar"]


def test_a_login_is_tried(convox: Convox, proxy: ForwardProxy) -> None:
    shown = convox.ok("registries", "check", HOST).stdout
    assert re.search(rf"^{HOST} +not asked for", shown, re.MULTILINE), shown
    assert set(proxy.asked) == {("CONNECT", f"{HOST}:443")}


def test_a_proxy_that_is_gone(convox: Convox, registry: FakeRegistry) -> None:
    convox.environ["HTTPS_PROXY"] = "http://user:CANARY@127.0.0.1:1"
    result = convox.run("registries", "check", HOST)
    assert "not reached: the proxy cannot be used" in result.stdout
    assert "CANARY" not in result.stdout + result.stderr
