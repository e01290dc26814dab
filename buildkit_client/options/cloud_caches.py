"""Caches in the stores of clouds: GitHub Actions, S3 and Azure Blob Storage.

The daemon talks to those stores itself, so addresses and keys are sent to it. Keys are never shown.

Reference: cache/remotecache/gha, s3 and azblob; cmd/buildctl/build/util.go, loadGithubEnv.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from buildkit_client.errors import OptionError
from buildkit_client.options.caches import check_mode
from buildkit_client.options.compression import bool_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildkit_client.options.caches import CacheMode

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions:
    """What every cache in a cloud's store takes.

    Attributes:
        mode: ``min`` keeps the layers of the result, ``max`` those of every step.
        ignore_error: A failing export does not fail the build.
    """

    mode: CacheMode = "min"
    ignore_error: bool = False

    def __post_init__(self) -> None:
        check_mode(self.mode)

    def _export_attrs(self) -> dict[str, str]:
        attrs = {"mode": str(self.mode)}
        if self.ignore_error:
            attrs["ignore-error"] = "true"
        return attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class GhaCache(CloudOptions):
    """A cache in GitHub's Actions cache (``type=gha``).

    Attributes:
        scope: Name of the cache; builds of different images need different ones. Empty takes ``buildkit``.
        url: Address of the service's first version.
        url_v2: Address of its second version.
        token: The runtime token; see :meth:`completed`.
        version: 1 or 2; None lets the daemon choose by the addresses.
        timeout: How long one transfer may take, as Go writes durations; empty takes ``10m``.
        repository: ``owner/name``, to ask GitHub's API which entries exist, so that not each has to be tried.
        github_token: Token for that API.

    The other fields are those of :class:`CloudOptions`.
    """

    scope: str = ""
    url: str = ""
    url_v2: str = ""
    token: str = field(default="", repr=False)
    version: Literal[1, 2] | None = None
    timeout: str = ""
    repository: str = ""
    github_token: str = field(default="", repr=False)

    @property
    def type(self) -> str:
        """``gha``."""
        return "gha"

    def completed(self, environ: Mapping[str, str]) -> GhaCache:
        """Return the cache with what is missing taken from the variables that GitHub's runners set.

        Args:
            environ: Usually ``os.environ`` of a step that was given ``ACTIONS_RUNTIME_TOKEN`` and
                ``ACTIONS_RESULTS_URL``.
        """
        results_url = environ.get("ACTIONS_RESULTS_URL", "")
        version = self.version
        if version is None and environ.get("ACTIONS_CACHE_SERVICE_V2", "") in _TRUE:
            version = 2
        return replace(
            self,
            url_v2=self.url_v2 or (results_url if version == 2 else ""),
            url=self.url or environ.get("ACTIONS_CACHE_URL", results_url),
            token=self.token or environ.get("ACTIONS_RUNTIME_TOKEN", ""),
        )

    def to_import_attrs(self) -> dict[str, str]:
        """Return every attribute that is set.

        Raises:
            OptionError: Address or token is missing.
        """
        if not self.url and not self.url_v2:
            raise OptionError(
                "a gha cache needs the address of the service",
                hint="take it from the runner with GhaCache(...).completed(os.environ)",
            )
        if not self.token:
            raise OptionError(
                "a gha cache needs a token",
                hint="take it from the runner with GhaCache(...).completed(os.environ); "
                "a step sees ACTIONS_RUNTIME_TOKEN only when an action hands it on",
            )
        return _set(
            ("scope", self.scope),
            ("url", self.url),
            ("url_v2", self.url_v2),
            ("token", self.token),
            ("version", str(self.version or "")),
            ("timeout", self.timeout),
        )

    def to_export_attrs(self) -> dict[str, str]:
        """Return every attribute that is set, and ``mode``.

        Raises:
            OptionError: Address or token is missing.
        """
        api = _set(("repository", self.repository), ("ghtoken", self.github_token))
        return self.to_import_attrs() | api | self._export_attrs()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Cache(CloudOptions):
    """A cache in a bucket of S3 or of what speaks like it (``type=s3``).

    Attributes:
        bucket: The bucket; empty takes ``AWS_BUCKET`` of the daemon.
        region: Its region; empty takes ``AWS_REGION`` of the daemon.
        names: Names of the cache; empty takes ``buildkit``. All are exported, the first is imported.
        prefix: In front of every key in the bucket.
        blobs_prefix: In front of blobs' names; None takes ``blobs/``.
        manifests_prefix: In front of manifests' names; None takes ``manifests/``.
        endpoint_url: Address of a store that is not Amazon's.
        access_key_id: With the next two, credentials; empty takes those of the daemon.
        secret_access_key: See above.
        session_token: See above.
        use_path_style: The bucket stands in the path of addresses, not in their host.
        touch_refresh: Blobs older than this are marked as used; a duration as Go writes it, empty takes ``24h``.
        upload_parallelism: Layers sent at once; None takes 4.
        disable_accept_encoding: Leave that header out of signed requests, for stores behind some proxies.
        retry_mode: How the daemon tries again; empty takes its default.
        retry_max_attempts: How often; None takes its default.

    The other fields are those of :class:`CloudOptions`.
    """

    bucket: str = ""
    region: str = ""
    names: str | Sequence[str] = ()
    prefix: str = ""
    blobs_prefix: str | None = None
    manifests_prefix: str | None = None
    endpoint_url: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    use_path_style: bool = False
    touch_refresh: str = ""
    upload_parallelism: int | None = None
    disable_accept_encoding: bool = False
    retry_mode: Literal["", "standard", "adaptive"] = ""
    retry_max_attempts: int | None = None

    def __post_init__(self) -> None:
        CloudOptions.__post_init__(self)
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise OptionError("an s3 cache needs both access_key_id and secret_access_key, or neither")
        if self.retry_mode not in ("", "standard", "adaptive"):
            raise OptionError(f"unknown retry mode {self.retry_mode!r}", hint="choose standard or adaptive")
        for name, number in (
            ("upload_parallelism", self.upload_parallelism),
            ("retry_max_attempts", self.retry_max_attempts),
        ):
            if number is not None and number < 1:
                raise OptionError(f"{name} of an s3 cache must be at least 1")

    @property
    def type(self) -> str:
        """``s3``."""
        return "s3"

    def to_import_attrs(self) -> dict[str, str]:
        """Return every attribute that is set."""
        attrs = _set(
            ("bucket", self.bucket),
            ("region", self.region),
            ("name", _joined(self.names)),
            ("prefix", self.prefix),
            ("endpoint_url", self.endpoint_url),
            ("access_key_id", self.access_key_id),
            ("secret_access_key", self.secret_access_key),
            ("session_token", self.session_token),
            ("retry_mode", self.retry_mode),
            ("retry_max_attempts", str(self.retry_max_attempts or "")),
        )
        attrs |= _prefixes(self.blobs_prefix, self.manifests_prefix)
        for key, wanted in (
            ("use_path_style", self.use_path_style),
            ("disable_accept_encoding", self.disable_accept_encoding),
        ):
            if wanted:
                attrs[key] = bool_text(wanted)
        return attrs

    def to_export_attrs(self) -> dict[str, str]:
        """Return every attribute that is set, and ``mode``."""
        uploading = _set(
            ("touch_refresh", self.touch_refresh), ("upload_parallelism", str(self.upload_parallelism or ""))
        )
        return self.to_import_attrs() | uploading | self._export_attrs()


@dataclass(frozen=True, slots=True, kw_only=True)
class AzblobCache(CloudOptions):
    """A cache in Azure Blob Storage (``type=azblob``).

    Attributes:
        account_url: For example ``https://account.blob.core.windows.net``; empty takes
            ``BUILDKIT_AZURE_STORAGE_ACCOUNT_URL`` of the daemon.
        account_name: Empty takes the first part of the host in the address.
        container: Empty takes ``buildkit-cache``.
        names: Names of the cache; empty takes ``buildkit``. All are exported and imported.
        prefix: In front of every name in the container.
        blobs_prefix: In front of blobs' names; None takes ``blobs``.
        manifests_prefix: In front of manifests' names; None takes ``manifests``.
        secret_access_key: The account's key; empty lets the daemon use the identity it has.

    The other fields are those of :class:`CloudOptions`.
    """

    account_url: str = ""
    account_name: str = ""
    container: str = ""
    names: str | Sequence[str] = ()
    prefix: str = ""
    blobs_prefix: str | None = None
    manifests_prefix: str | None = None
    secret_access_key: str = field(default="", repr=False)

    @property
    def type(self) -> str:
        """``azblob``."""
        return "azblob"

    def to_import_attrs(self) -> dict[str, str]:
        """Return every attribute that is set."""
        attrs = _set(
            ("account_url", self.account_url),
            ("account_name", self.account_name),
            ("container", self.container),
            ("name", _joined(self.names)),
            ("prefix", self.prefix),
            ("secret_access_key", self.secret_access_key),
        )
        return attrs | _prefixes(self.blobs_prefix, self.manifests_prefix)

    def to_export_attrs(self) -> dict[str, str]:
        """Return every attribute that is set, and ``mode``."""
        return self.to_import_attrs() | self._export_attrs()


def _set(*pairs: tuple[str, str]) -> dict[str, str]:
    return {key: value for key, value in pairs if value}


def _prefixes(blobs: str | None, manifests: str | None) -> dict[str, str]:
    """Return the prefixes that are given; an empty one differs from none."""
    return {
        key: value for key, value in (("blobs_prefix", blobs), ("manifests_prefix", manifests)) if value is not None
    }


def _joined(names: str | Sequence[str]) -> str:
    several = (names,) if isinstance(names, str) else tuple(names)
    if any(";" in name for name in several):
        raise OptionError("a cache's name holds a semicolon", hint="give several names as a sequence")
    return ";".join(several)
