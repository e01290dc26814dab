"""Cases of the caches: exported by one tool, read by the other, on a daemon emptied in between."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.integration.compare.case import Case, dockerfile
from tests.integration.compare.observe import Seen

AREA = "caches"

_STEPS = dockerfile(
    "FROM {base} AS build\nRUN echo {case} > /made\nCOPY hello /\nRUN cat /hello /made > /product\n"
    "FROM scratch\nCOPY --from=build /product /\n"
)
_PLAIN = dockerfile("FROM scratch AS one\nCOPY hello /one\nFROM scratch\nCOPY --from=one /one /two\n")
_LOCAL_EXPORT = "--export-cache type=local,dest={out}/cache"


def _layout(*names: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert {f"cache/{name}" for name in ("index.json", "oci-layout", *names)} <= set(seen.files)
        assert json.loads(seen.metadata["cache.manifest"])["digest"]

    return check


def _pushed_cache(seen: Seen) -> None:
    assert "cache" in seen.registry


def _cached(*wanted: str, missed: tuple[str, ...] = ()) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        steps = {name: cached for name, cached in seen.user_steps.items() if "RUN" in name or "COPY" in name}
        for part in wanted:
            assert any(cached for name, cached in steps.items() if part in name), steps
        for part in missed:
            assert not any(cached for name, cached in steps.items() if part in name), steps

    return check


def _tags(*wanted: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        index = seen.documents["cache"]
        found = {one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]}
        assert found == set(wanted)

    return check


def _inline(seen: Seen) -> None:
    assert any("moby.buildkit.cache.v0" in config for config in seen.named("/config"))


def _warned(seen: Seen) -> None:
    lines = [line for line in seen.stderr.splitlines() if "local cache" in line and "/none" in line]
    assert any("warning" in line for line in lines), seen.stderr


_LAYOUT = {"mode": "buildctl makes blobs read-only, even for who wrote them"}
_RACE = {"error": "buildctl may ask for the status of a build that has ended"}
_WARMED = {"files": "a blob may be packed anew", "documents": "as files", "metadata": "as files", "pushed": "as files"}
_ALL = ("RUN echo", "RUN cat", "COPY hello")

CASES = [
    # what is written
    Case(
        name="registry, min",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:cache",
        check=_pushed_cache,
        loose="undated",
    ),
    Case(
        name="registry, max",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:cache,mode=max",
        check=_pushed_cache,
        loose="undated",
    ),
    Case(
        name="registry, a bare reference",
        files=_PLAIN,
        flags="--export-cache {repo}:cache",
        check=_pushed_cache,
        loose="undated",
    ),
    Case(
        name="registry, index and docker types",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:cache,mode=max,image-manifest=false,oci-mediatypes=false",
        check=_pushed_cache,
        loose="undated",
    ),
    Case(
        name="registry, zstd",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:cache,mode=max,"
        "compression=zstd,compression-level=3,force-compression=true",
        check=_pushed_cache,
        loose="undated",
    ),
    Case(name="local", files=_PLAIN, flags=_LOCAL_EXPORT, check=_layout(), ignore=_LAYOUT, loose="undated"),
    Case(
        name="local, max",
        files=_PLAIN,
        flags=_LOCAL_EXPORT + ",mode=max",
        check=_layout(),
        ignore=_LAYOUT,
        loose="undated",
    ),
    Case(
        name="local, tag",
        files=_PLAIN,
        flags=_LOCAL_EXPORT + ",tag=web",
        check=_tags("web"),
        ignore=_LAYOUT,
        loose="undated",
    ),
    Case(
        name="local, a second tag",
        files=_PLAIN,
        before=(_LOCAL_EXPORT + ",tag=api",),
        flags=_LOCAL_EXPORT + ",tag=web,mode=max",
        check=_tags("api", "web"),
        ignore=_LAYOUT,
        own_daemon=True,
        loose="undated",
    ),
    Case(
        name="local, the same tag again",
        files=_PLAIN,
        before=(_LOCAL_EXPORT + ",tag=web --opt label:a=1",),
        flags=_LOCAL_EXPORT + ",tag=web,mode=max",
        check=_tags("web"),
        ignore=_LAYOUT,
        own_daemon=True,
        loose="undated",
    ),
    Case(
        name="local, beside the other tool's",
        files=_PLAIN,
        before=(_LOCAL_EXPORT + ",tag=api",),
        before_by="other",
        flags=_LOCAL_EXPORT + ",tag=web,mode=max",
        check=_tags("api", "web"),
        ignore=_LAYOUT,
        own_daemon=True,
        loose="undated",
    ),
    Case(
        name="local, reset",
        files=_PLAIN,
        before=(_LOCAL_EXPORT + ",tag=web,mode=max",),
        flags=_LOCAL_EXPORT + ",tag=web,mode=min,reset=true,compression=zstd",
        check=_tags("web"),
        ignore=_LAYOUT,
        own_daemon=True,
        loose="undated",
    ),
    Case(
        name="local, docker types",
        files=_PLAIN,
        flags=_LOCAL_EXPORT + ",image-manifest=false,oci-mediatypes=false",
        check=_layout(),
        ignore=_LAYOUT,
        loose="undated",
    ),
    Case(
        name="local, uncompressed",
        files=_PLAIN,
        flags=_LOCAL_EXPORT + ",compression=uncompressed,force-compression=true",
        check=_layout(),
        ignore=_LAYOUT,
        loose="undated",
    ),
    Case(
        name="inline",
        files=_PLAIN,
        flags="--export-cache type=inline --output type=image,name={repo}:1,push=true,rewrite-timestamp=true",
        check=_inline,
        own_daemon=True,
        loose="all",
    ),
    Case(
        name="two exports",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:cache --export-cache type=local,dest={out}/cache,mode=max",
        check=_pushed_cache,
        ignore=_LAYOUT,
        own_daemon=True,
        loose="undated",
    ),
    Case(
        name="an error that is ignored",
        files=_PLAIN,
        flags="--export-cache type=registry,ref=127.0.0.1:1/none:cache,ignore-error=true",
    ),
    # what is read, on an emptied daemon
    Case(
        name="registry, read by the one that wrote",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=registry,ref={repo}:cache,mode=max", "prune"),
        flags="--import-cache type=registry,ref={repo}:cache",
        ignore=_WARMED,
        check=_cached(*_ALL),
    ),
    Case(
        name="registry, read by the other",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=registry,ref={repo}:cache,mode=max", "prune"),
        before_by="other",
        flags="--import-cache {repo}:cache",
        ignore=_WARMED,
        check=_cached(*_ALL),
    ),
    Case(
        name="registry, min read",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=registry,ref={repo}:cache", "prune"),
        before_by="other",
        flags="--import-cache type=registry,ref={repo}:cache --no-cache",
        ignore=_WARMED,
    ),
    Case(
        name="local, read by the one that wrote",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=local,dest={arm}/cache,mode=max", "prune"),
        flags="--import-cache type=local,src={arm}/cache",
        check=_cached(*_ALL),
    ),
    Case(
        name="local, read by the other",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=local,dest={arm}/cache,mode=max,tag=x", "prune"),
        before_by="other",
        flags="--import-cache type=local,src={arm}/cache,tag=x",
        check=_cached(*_ALL),
    ),
    Case(
        name="local, read and written",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=local,dest={arm}/cache,mode=max", "prune"),
        before_by="other",
        flags="--import-cache type=local,src={arm}/cache --export-cache type=local,dest={arm}/cache,mode=max",
        ignore=_WARMED,
        check=_cached(*_ALL),
    ),
    Case(
        name="inline, read by the other",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=inline --output type=image,name={repo}:1,push=true", "prune"),
        before_by="other",
        flags="--import-cache type=registry,ref={repo}:1",
        ignore=_WARMED,
    ),
    Case(name="registry cache that is not there", files=_PLAIN, flags="--import-cache type=registry,ref={repo}:none"),
    Case(
        name="local cache that is not there",
        files=_PLAIN,
        flags="--import-cache type=local,src={arm}/none",
        check=_warned,
    ),
    Case(
        name="local cache without that tag",
        files=_PLAIN,
        before=("--export-cache type=local,dest={arm}/cache,tag=a",),
        flags="--import-cache type=local,src={arm}/cache,tag=b",
    ),
    Case(
        name="two imports, one there",
        own_daemon=True,
        files=_STEPS,
        before=("--export-cache type=local,dest={arm}/cache,mode=max", "prune"),
        flags="--import-cache type=local,src={arm}/none --import-cache type=local,src={arm}/cache",
        check=_cached(*_ALL),
    ),
    # what cannot be
    Case(
        name="gha without an address",
        files=_PLAIN,
        flags="--export-cache type=gha",
        error="cache with type gha requires url parameter to be set",
    ),
    Case(
        name="gha without a token",
        files=_PLAIN,
        environ={"ACTIONS_CACHE_URL": "http://127.0.0.1:1/"},
        flags="--import-cache type=gha",
        error="requires token parameter or $ACTIONS_RUNTIME_TOKEN",
    ),
    Case(
        name="gha without a server",
        files=_PLAIN,
        environ={"ACTIONS_CACHE_URL": "http://127.0.0.1:1/", "ACTIONS_RUNTIME_TOKEN": "t"},
        flags="--export-cache type=gha,scope=x,timeout=1s",
        error="gha",
        ignore=_RACE,
    ),
    Case(name="s3 without a region", files=_PLAIN, flags="--export-cache type=s3,bucket=b", error="region"),
    Case(
        name="s3 without a server",
        files=_PLAIN,
        flags="--export-cache type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:1,access_key_id=a,secret_access_key=s,retry_max_attempts=1",
        error="127.0.0.1:1",
        ignore=_RACE,
    ),
    Case(name="azblob without an account", files=_PLAIN, flags="--export-cache type=azblob", error="account_url"),
    Case(
        name="azblob without a server",
        files=_PLAIN,
        flags="--export-cache type=azblob,account_url=http://127.0.0.1:1,secret_access_key=aGk= --import-cache type=azblob,account_url=http://127.0.0.1:1,secret_access_key=aGk=",
        error="error: ",
        ignore=_RACE,
    ),
    Case(
        name="unknown type",
        files=_PLAIN,
        flags="--export-cache type=nothing",
        error='unknown cache exporter: "nothing"',
    ),
    Case(
        name="no type", files=_PLAIN, flags="--export-cache mode=max,type=", error="--export-cache requires type=<type>"
    ),
    Case(name="registry without a reference", files=_PLAIN, flags="--export-cache type=registry", error="ref"),
    Case(name="local without a folder", files=_PLAIN, flags="--export-cache type=local", error="dest"),
    Case(name="local without a source", files=_PLAIN, flags="--import-cache type=local", error="src"),
    Case(
        name="a registry that is gone",
        files=_PLAIN,
        flags="--export-cache type=registry,ref=127.0.0.1:1/none:cache",
        error="connection refused",
    ),
    Case(
        name="the same export twice",
        files=_PLAIN,
        flags="--export-cache type=registry,ref={repo}:c --export-cache type=registry,ref={repo}:c",
        error="duplicate cache exports",
    ),
]
