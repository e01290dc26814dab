"""TLS settings for ``tcp://`` addresses, as ``buildctl --tls…`` takes them.

Reference: cmd/buildctl/common/common.go, resolveTLSFilesFromDir; client/client.go, loadCredentials.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit_client.errors import OptionError

if TYPE_CHECKING:
    import ssl

# cmd/buildctl/common/common.go: the first name that exists wins
_DIRECTORY_NAMES = {
    "ca": ("ca.pem", "ca.crt"),
    "cert": ("cert.pem", "tls.crt"),
    "key": ("key.pem", "tls.key"),
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the files of a :class:`TlsConfig` hold, in PEM."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)

    def context(self, protocol: str) -> ssl.SSLContext:
        """Return what Python's own TLS needs; the channel to a daemon uses the gRPC library's instead.

        Args:
            protocol: The ALPN name to ask for, for example ``h2``.

        Raises:
            OSError: The files do not hold what they should.
        """
        import ssl  # noqa: PLC0415 - most connections do without

        context = ssl.create_default_context(cadata=self.ca.decode("ascii", "replace") if self.ca else None)
        context.set_alpn_protocols([protocol])
        if self.certificate and self.key:
            with tempfile.TemporaryDirectory() as folder:  # the ssl module takes a chain only from a file
                pem = Path(folder) / "client.pem"
                pem.touch(mode=0o600)
                pem.write_bytes(self.certificate + b"\n" + self.key)
                context.load_cert_chain(pem)
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Which files make a TLS connection.

    Attributes:
        ca: Certificates that may have signed the daemon's; only these are trusted. None takes the system's.
        cert: Our certificate, for daemons that ask for one; together with ``key``.
        key: Its private key.
        server_name: Name the daemon's certificate must carry; empty takes the address's host.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise OptionError(
                "a TLS client certificate needs both its certificate and its key",
                why="only the certificate was given" if self.key is None else "only the key was given",
                hint="give both, or neither",
            )

    @classmethod
    def from_directory(cls, directory: Path, *, server_name: str = "") -> TlsConfig:
        """Read ``ca.pem|ca.crt``, ``cert.pem|tls.crt`` and ``key.pem|tls.key`` from a folder; all three must be there.

        Raises:
            OptionError: One of them is missing.
        """
        found: dict[str, Path] = {}
        for role, names in _DIRECTORY_NAMES.items():
            for name in names:
                if (directory / name).is_file():
                    found[role] = directory / name
                    break
            else:
                raise OptionError(
                    f"the TLS folder {directory} has no {role} file",
                    why=f"neither {' nor '.join(names)} is there",
                    hint="put ca.pem, cert.pem and key.pem into the folder, or name the three files one by one",
                )
        return cls(ca=found["ca"], cert=found["cert"], key=found["key"], server_name=server_name)

    def load(self) -> TlsFiles:
        """Read the files.

        Raises:
            OptionError: One cannot be read.
        """
        return TlsFiles(ca=_read(self.ca), certificate=_read(self.cert), key=_read(self.key))


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        raise OptionError(f"cannot read the TLS file {path}", why=exc.strerror or str(exc)) from exc
