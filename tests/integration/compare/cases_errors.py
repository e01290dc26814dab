"""Cases of bad input: exit codes, error lines, and what is left of the output."""

from __future__ import annotations

from tests.integration.compare.case import Case, dockerfile

AREA = "errors"

_OCI = "--output type=oci,dest={out}/image.tar"
_FAILS = dockerfile("FROM {base}\nRUN echo before; exit 7\n")
_LAYOUT = dockerfile("FROM base\n")
_ZEROS = "sha256:" + "0" * 64

_OURS = {"error": "what fails on our side is told in our words, without the way through the daemon"}
_GATEWAY = {"error": "buildctl asks through a gateway, whose errors are wrapped once more"}

CASES = [
    # outputs
    Case(name="unknown exporter", flags="--output type=nothing", error='exporter "nothing" could not be found'),
    Case(name="exporter without a type", flags="--output name=x", error="--output requires type=<type>"),
    Case(name="exporter, no pair", flags="--output type=oci,tar", error="invalid value tar"),
    Case(name="exporter, bad quotes", flags="--output 'type=oci,\"x'", error="error: "),
    Case(
        name="output= in place of dest=",
        flags="--output type=oci,output=x",
        error="output=x not supported for --output, you meant dest=x?",
    ),
    Case(
        name="local without dest", flags="--output type=local", error="output directory is required for local exporter"
    ),
    Case(
        name="oci layout without dest",
        flags="--output type=oci,tar=false",
        error="output directory is required for oci exporter",
    ),
    Case(
        name="image with dest", flags="--output type=image,dest=x", error="output x is not supported by image exporter"
    ),
    Case(
        name="local, unknown mode",
        flags="--output type=local,dest={out}/files,mode=mirror",
        error='invalid local exporter mode "mirror"',
        needs="0.31",
    ),
    Case(
        name="local cache, reset that is none",
        flags="--export-cache type=local,dest={arm}/cache,reset=perhaps",
        error='failed to parse reset attribute: strconv.ParseBool: parsing "perhaps": invalid syntax',
    ),
    Case(name="oci into a folder", flags="--output type=oci,dest={arm}", error="destination file is a directory"),
    Case(
        name="oci into a folder that is not there",
        flags="--output type=oci,dest={out}/a/b.tar",
        error="no such file or directory",
    ),
    Case(
        name="oci below a file",
        more={"file": b""},
        flags="--output type=oci,dest={arm}/file/b.tar",
        error="not a directory",
    ),
    Case(name="oci where nobody may write", flags="--output type=oci,dest=/sys/image.tar", error="permission denied"),
    Case(
        name="oci to a full device",
        flags="--output type=oci,dest=/dev/full",
        error="no space left on device",
        ignore=_OURS,
    ),
    Case(
        name="tar to a full device",
        flags="--output type=tar,dest=/dev/full",
        error="no space left on device",
        ignore=_OURS,
    ),
    Case(
        name="local over a file",
        more={"out/file": b""},
        flags="--output type=local,dest={out}/file",
        error="out/file",
        left=frozenset({"file"}),
        ignore=_OURS,
    ),
    Case(
        name="local below a file",
        more={"out/file": b""},
        flags="--output type=local,dest={out}/file/x",
        error="out/file",
        left=frozenset({"file"}),
        ignore=_OURS,
    ),
    Case(
        name="layout over a file",
        more={"out/file": b""},
        flags="--output type=oci,tar=false,dest={out}/file",
        error="out/file",
        left=frozenset({"file"}),
        ignore=_OURS,
    ),
    Case(name="a bad compression", flags=_OCI + ",compression=lzma", error="lzma"),
    Case(name="a bad compression level", flags=_OCI + ",compression-level=high", error="high"),
    Case(name="a bad truth value", flags="--output type=image,push=perhaps", error="perhaps"),
    Case(name="a bad time", flags=_OCI + ",source-date-epoch=yesterday", error="yesterday"),
    Case(name="a bad name", flags="--output type=image,name=UPPER,push=true", error="UPPER"),
    Case(
        name="a registry that is gone",
        flags="--output type=image,name=127.0.0.1:1/x:1,push=true",
        error="connection refused",
    ),
    Case(
        name="a wrong password",
        more={"docker/config.json": b"{wrong_login}"},
        flags="--output type=image,name={htpasswd}/{name}:1,push=true",
        error="401",
    ),
    Case(name="no password", flags="--output type=image,name={htpasswd}/{name}:1,push=true", error="401"),
    Case(
        name="docker of two platforms",
        flags="--opt platform=linux/amd64,linux/arm64 --output type=docker,dest={out}/i.tar",
        error="docker exporter does not currently support exporting manifest lists",
    ),
    Case(
        name="standard output is full",
        flags="--output type=tar",
        stdout="full",
        error="no space left on device",
        ignore=_OURS,
    ),
    # frontends and contexts
    Case(name="unknown frontend", files=None, flags="--frontend nothing", error="nothing"),
    Case(
        name="no frontend and no graph",
        files=None,
        flags="",
        error="please specify --frontend or pipe LLB definition to stdin",
    ),
    Case(
        name="a graph that is none",
        files=None,
        stdin=b"no graph at all",
        flags="",
        error="failed to parse input",
        ignore=_OURS,
    ),
    Case(name="an opt without a value", flags="--opt target", error="invalid opt"),
    Case(name="a local without a value", flags="--local context", error="invalid local"),
    Case(
        name="a folder that is not there",
        files=None,
        flags="--frontend dockerfile.v0 --local context={arm}/none --local dockerfile={arm}",
        error="no such file or directory",
    ),
    Case(
        name="a folder that is a file",
        files=None,
        more={"file": b""},
        flags="--frontend dockerfile.v0 --local context={arm}/file --local dockerfile={arm}",
        error="not a directory",
    ),
    Case(
        name="no context given",
        files=None,
        more={"Dockerfile": b"FROM scratch\nCOPY x /\n"},
        flags="--frontend dockerfile.v0 --local dockerfile={arm}",
        error="context",
        ignore=_GATEWAY,
    ),
    Case(
        name="no Dockerfile given",
        files=None,
        flags="--frontend dockerfile.v0 --local context={arm}",
        error="dockerfile",
        ignore=_GATEWAY,
    ),
    Case(
        name="missing Dockerfile",
        files={"hello": b"h"},
        flags=_OCI,
        error="failed to read dockerfile: open Dockerfile: no such file or directory",
    ),
    Case(name="missing Dockerfile of a name", flags="--opt filename=none/App " + _OCI, error="none"),
    Case(name="empty Dockerfile", files={"Dockerfile": b""}, flags=_OCI, error="the Dockerfile cannot be empty"),
    Case(
        name="bad instruction",
        files=dockerfile("FROM scratch\nCOPPY hello /\n"),
        flags=_OCI,
        error="unknown instruction: COPPY",
    ),
    Case(
        name="bad flag of an instruction",
        files=dockerfile("FROM scratch\nCOPY --frm=x hello /\n"),
        flags=_OCI,
        error="frm",
    ),
    Case(
        name="a file that is not there",
        files=dockerfile("FROM scratch\nCOPY none /\n"),
        flags=_OCI,
        error='"/none": not found',
    ),
    Case(
        name="missing target",
        flags="--opt target=none " + _OCI,
        error='target stage "none" could not be found',
        needs="0.13",
    ),
    Case(name="bad platform", flags="--opt platform=linux/amd64/v3/x/y " + _OCI, error="linux/amd64/v3/x/y"),
    Case(name="a step that fails", files=_FAILS, flags=_OCI, error="exit code: 7"),
    Case(
        name="a step that fails, output there before",
        files=_FAILS,
        more={"out/image.tar": b"before"},
        flags=_OCI,
        error="exit code: 7",
        left=frozenset({"image.tar"}),
    ),
    Case(
        name="an image that is not there", files=dockerfile("FROM {registry}/none:1\n"), flags=_OCI, error="not found"
    ),
    Case(
        name="bad build-arg of the frontend",
        files=dockerfile("# syntax={registry}/none:1\nFROM scratch\n"),
        flags=_OCI,
        error="not found",
    ),
    Case(
        name="frontend image that is none",
        files=None,
        flags="--frontend gateway.v0 --opt source={base}",
        error="error: ",
    ),
    Case(name="unknown sub-request", flags="--opt requestid=frontend.none", error="frontend.none", needs="0.22"),
    Case(name="unknown feature of a frontend", flags="--opt frontend.caps=none", error="none", needs="0.22"),
    Case(
        name="a check that fails",
        files=dockerfile("# check=error=true\nFROM scratch AS Small\nCOPY hello /\n"),
        flags=_OCI,
        error="lint violation found",
        needs="0.14",
    ),
    Case(
        name="git ref that is not there",
        files=None,
        flags="--frontend dockerfile.v0 --opt context={http}/app.git#none",
        error="none",
    ),
    Case(
        name="git folder that is not there",
        files=None,
        flags="--frontend dockerfile.v0 --opt context={http}/app.git#v1:none",
        error="none",
        needs="0.29",
    ),
    Case(
        name="git checksum that is wrong",
        files=None,
        flags="--frontend dockerfile.v0 --opt 'context={http}/app.git?ref=v2&checksum={commit}'",
        error="checksum",
        needs="0.24",
    ),
    Case(
        name="git repository that is not there",
        files=None,
        flags="--frontend dockerfile.v0 --opt context={http}/none.git",
        error="none.git",
    ),
    Case(
        name="page that is not there",
        files=None,
        flags="--frontend dockerfile.v0 --opt context={http}/none.tar",
        error="404",
    ),
    # layouts
    Case(
        name="layout without a path",
        flags="--oci-layout x",
        error="invalid oci-layout: oci-layout option must be 'id=path/to/layout'",
    ),
    Case(
        name="layout that was not given",
        files=_LAYOUT,
        flags=f"--opt context:base=oci-layout://store@{_ZEROS}",
        error="unable to get info about digest",
        ignore={"error": "buildctl has no content service when it was given no layout"},
    ),
    Case(
        name="layout, digest that is not there",
        files=_LAYOUT,
        flags=f"--oci-layout store={{layout}} --opt context:base=oci-layout://store@{_ZEROS}",
        error="sha256:0000",
        ignore=_OURS,
    ),
    Case(
        name="layout, blobs gone",
        files=_LAYOUT,
        flags="--oci-layout store={broken_layout} --opt context:base=oci-layout://store@sha256:" + "1" * 64,
        error="sha256:1111",
        ignore=_OURS,
    ),
    # flags
    Case(
        name="TLS settings without host",
        flags="--registry-auth-tlscontext ca=x",
        error="--registry-auth-tlscontext requires host=<host>",
    ),
    Case(
        name="TLS settings without a certificate",
        flags="--registry-auth-tlscontext host=x",
        error="requires ca=<ca> or cert=<cert>,key=<key> or insecure=true",
    ),
    Case(
        name="TLS settings, half a pair",
        flags="--registry-auth-tlscontext host=x,ca=a,cert=c",
        error="requires cert=<cert>,key=<key>",
    ),
    Case(name="unknown progress", flags="--progress=loud", error="loud"),
    Case(
        name="metadata into a folder that is not there",
        flags="--output type=image --metadata-file {arm}/none/m.json",
        error="no such file or directory",
        ignore={"error": "it names a temporary file"},
    ),
    Case(
        name="metrics into a folder that is not there",
        flags="--debug-json-cache-metrics {arm}/none/m.json",
        error="no such file or directory",
    ),
]
