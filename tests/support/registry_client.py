"""A registry client of the tests, the image that its registry has, and short ways to use both."""

from __future__ import annotations

import os
from typing import Any

from buildkit_client.oci import media_types
from buildkit_client.oci.credentials import Credentials, StaticCredentials
from buildkit_client.oci.descriptor import Descriptor
from buildkit_client.oci.image import ImageManifest
from buildkit_client.oci.reference import Reference
from buildkit_client.oci.registry import RegistryClient
from buildkit_client.oci.token import HttpOptions
from tests.support.fake_registry import FakeRegistry

BLOB = os.urandom(300_000)
LAYER = Descriptor.of(media_types.OCI_LAYER_GZIP, BLOB)
CONFIG_DATA = b'{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/x"]}}'
CONFIG = Descriptor.of(media_types.OCI_CONFIG, CONFIG_DATA)
MANIFEST = ImageManifest(CONFIG, (LAYER,)).to_bytes()


class Maker:
    def __init__(self, registry: FakeRegistry, waits: list[float]) -> None:
        self.registry, self.waits = registry, waits
        self.clients: list[RegistryClient] = []

    def __call__(self, login: tuple[str, str] | None = None, **options: Any) -> RegistryClient:
        provider = StaticCredentials({self.registry.host: Credentials(*login)}) if login else None
        options.setdefault("http", HttpOptions(sleep=self.waits.append, read_timeout_s=5))
        client = RegistryClient(self.registry.host, provider, read_timeout_s=5, **options)
        self.clients.append(client)
        return client


def ping(host: str, options: HttpOptions) -> None:
    with RegistryClient(host, http=options) as client:
        client.ping()


def read(client: RegistryClient, ref: Reference, descriptor: Descriptor = LAYER) -> bytes:
    return b"".join(client.read_blob(ref, descriptor))


def other(ref: Reference, path: str = "new") -> Reference:
    return Reference(ref.domain, path, "1")


def push(client: RegistryClient, ref: Reference, data: bytes = BLOB, **options: Any) -> bool:
    return client.push_blob(ref, Descriptor.of("x/y", data), lambda: [data[:1000], data[1000:]], **options)
