"""Cases of the attestations: provenance and SBOM, decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.compare.case import Case, dockerfile
from tests.integration.compare.observe import Seen

AREA = "attestations"

_OCI = " --output type=oci,dest={out}/image.tar,rewrite-timestamp=true"
_STAGED = dockerfile("FROM scratch AS one\nCOPY hello /one\nFROM scratch\nCOPY --from=one /one /\n")


def _statements(seen: Seen) -> list[Any]:
    return seen.named("/statement")


def _provenance(*keys: str, version: str = "v1") -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        (statement,) = _statements(seen)
        assert statement["predicateType"].endswith(f"/provenance/{version}")
        for key in keys:
            assert f"'{key}'" in str(statement["predicate"]), statement

    return check


def _without(key: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        (statement,) = _statements(seen)
        assert f"'{key}'" not in str(statement)

    return check


def _sbom(count: int) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert len(_statements(seen)) == count
        assert all(one["predicateType"] == "https://spdx.dev/Document" for one in _statements(seen))

    return check


def _none(seen: Seen) -> None:
    assert not _statements(seen)


def _files(*names: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert set(names) <= set(seen.files), sorted(seen.files)

    return check


def _case(name: str, flags: str, **values: Any) -> Case:
    return Case(name=name, flags=flags, loose="all", **values)


CASES = [
    _case("none unless asked for", _OCI, check=_none),
    _case(
        "provenance",
        "--opt attest:provenance=" + _OCI,
        check=_provenance("buildDefinition", "llbDefinition"),
        needs="0.28",
    ),
    _case("provenance, min", "--opt attest:provenance=mode=min" + _OCI, check=_without("llbDefinition")),
    _case(
        "provenance, max",
        "--opt attest:provenance=mode=max --opt label:a=b" + _OCI,
        check=_provenance("label:a"),
        needs="0.28",
    ),
    _case(
        "provenance, version 0.2",
        "--opt attest:provenance=mode=max,version=v0.2" + _OCI,
        check=_provenance("buildConfig", version="v0.2"),
    ),
    _case(
        "provenance, version 1",
        "--opt attest:provenance=version=v1" + _OCI,
        check=_provenance("runDetails"),
        needs="0.23",
    ),
    _case(
        "provenance, builder",
        "--opt attest:provenance=mode=min,builder-id=https://ci.example.com/1" + _OCI,
        check=_provenance("https://ci.example.com/1"),
        needs="0.28",
    ),
    _case(
        "provenance, reproducible",
        "--opt attest:provenance=mode=max,reproducible=true" + _OCI,
        check=_provenance("buildDefinition"),
        needs="0.28",
    ),
    _case(
        "provenance, file name",
        "--opt attest:provenance=mode=min,filename=p.json --output type=local,dest={tree}",
        check=_files("tree/p.json"),
    ),
    _case(
        "provenance with commit",
        "--opt attest:provenance=mode=min --opt vcs:revision=abc --opt vcs:source=https://example.com/r" + _OCI,
        check=_provenance("abc"),
        needs="0.28",
    ),
    _case(
        "provenance of several stages",
        "--opt attest:provenance=mode=max" + _OCI,
        files=_STAGED,
        check=_provenance("llbDefinition"),
        needs="0.28",
    ),
    _case(
        "provenance of a base image",
        "--opt attest:provenance=mode=max" + _OCI,
        files=dockerfile("FROM {base}\nCOPY hello /\n"),
        check=_provenance("resolvedDependencies"),
        needs="0.28",
    ),
    _case(
        "provenance of a git context",
        "--frontend dockerfile.v0 --opt context={http}/app.git#v1 --opt attest:provenance=mode=max" + _OCI,
        files=None,
        check=_provenance("externalParameters"),
        needs="0.28",
    ),
    _case(
        "provenance of two platforms", "--opt platform=linux/amd64,linux/arm64 --opt attest:provenance=mode=min" + _OCI
    ),
    _case(
        "provenance in files",
        "--opt attest:provenance=mode=min --output type=local,dest={tree}",
        check=_files("tree/provenance.json"),
    ),
    _case(
        "provenance in files of two platforms",
        "--opt platform=linux/amd64,linux/arm64 --opt attest:provenance=mode=min --output type=local,dest={tree}",
        check=_files("tree/linux_arm64/provenance.json"),
    ),
    _case(
        "provenance with a prefix",
        "--opt attest:provenance=mode=min --output type=local,dest={tree},attestation-prefix=x-",
        check=_files("tree/x-provenance.json"),
    ),
    _case(
        "provenance, pushed",
        "--opt attest:provenance=mode=min --output type=image,name={repo}:1,push=true,rewrite-timestamp=true",
        check=_provenance("buildDefinition"),
        needs="0.28",
    ),
    _case(
        "provenance, docker types",
        "--opt attest:provenance=mode=min --output type=image,name={repo}:1,push=true,oci-artifact=false",
        check=_provenance("buildDefinition"),
        needs="0.28",
    ),
    _case(
        "provenance by build-arg",
        "--opt build-arg:BUILDKIT_ATTEST_PROVENANCE=mode=min" + _OCI,
        check=_provenance("buildDefinition"),
        needs="0.28",
    ),
    _case(
        "provenance beside secrets",
        "--opt attest:provenance=mode=max --secret id=s,src={context}/hello" + _OCI,
        files=dockerfile("FROM {base}\nRUN --mount=type=secret,id=s cat /run/secrets/s > /dev/null\n"),
        check=_provenance("secrets"),
        needs="0.28",
    ),
    _case("sbom", "--opt attest:sbom=generator={scanner}" + _OCI, check=_sbom(1)),
    _case("sbom and provenance", "--opt attest:sbom=generator={scanner} --opt attest:provenance=mode=min" + _OCI),
    _case(
        "sbom in files",
        "--opt attest:sbom=generator={scanner} --output type=local,dest={tree}",
        check=_files("tree/sbom.spdx.json"),
    ),
    _case(
        "sbom of a stage",
        "--opt attest:sbom=generator={scanner} --opt build-arg:BUILDKIT_SBOM_SCAN_STAGE=true" + _OCI,
        files=dockerfile(
            "FROM scratch AS one\nARG BUILDKIT_SBOM_SCAN_STAGE\nCOPY hello /one\nFROM scratch\nCOPY --from=one /one /\n"
        ),
        check=_sbom(2),
    ),
    Case(
        name="sbom with a scanner that is gone",
        flags="--opt attest:sbom=generator={registry}/none:1" + _OCI,
        error="not found",
    ),
    Case(
        name="unknown attestation",
        flags="--opt attest:nothing=" + _OCI,
        error="nothing",
        ignore={"error": "found before the build starts"},
    ),
    Case(name="provenance, unknown mode", flags="--opt attest:provenance=mode=some" + _OCI, error="some"),
]
