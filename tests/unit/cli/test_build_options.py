"""The options of ``build``; texts of errors were seen with buildctl v0.34.2."""

from __future__ import annotations

import io
import os
import pty
import socket
from pathlib import Path

import pytest

from buildkit_client.cli.build_options import (
    SecretSource,
    SshSource,
    agent_from,
    parse_allow,
    parse_export_cache,
    parse_import_cache,
    parse_locals,
    parse_oci_layouts,
    parse_opts,
    parse_output,
    parse_secret,
    parse_ssh,
    secret_from,
)
from buildkit_client.errors import OptionError
from buildkit_client.options import (
    OutputDirectory,
    OutputFile,
    OutputLayout,
    OutputStream,
    RawCache,
    RawExporter,
    SecretCallback,
    SecretFile,
    SshAgent,
    SshKeys,
)


def output(text: str) -> RawExporter:
    return parse_output(text, stdout=STDOUT)


STDOUT = io.BytesIO()


def test_an_image_keeps_its_attributes() -> None:
    assert output('type=image,"name=a,b",Push=true,annotation.Key=x') == RawExporter(
        "image", {"name": "a,b", "push": "true", "annotation.key": "x"}, unchecked=True
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=oci,dest=x.tar", OutputFile(Path("x.tar"))),
        ("type=docker,dest=x.tar,name=a", OutputFile(Path("x.tar"))),
        ("type=tar,dest=x.tar", OutputFile(Path("x.tar"))),
        ("type=oci", OutputStream(STDOUT)),
        ("type=oci,dest=-", OutputStream(STDOUT)),
        ("type=oci,tar=false,dest=layout", OutputLayout(Path("layout"))),
        ("type=oci,tar=nonsense,dest=x", OutputFile(Path("x"))),
        ("type=local,dest=out", OutputDirectory(Path("out"))),
        ("type=image,name=x", None),
        ("type=nope", None),
    ],
)
def test_destinations(text: str, expected: object) -> None:
    exporter = output(text)
    assert exporter.output == expected
    assert "dest" not in exporter.attrs


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "invalid value foo"),
        ("name=x", "--output requires type=<type>"),
        ("", "EOF"),
        ("type=local", "invalid output option: output: output directory is required for local exporter"),
        ("type=oci,tar=false", "invalid output option: output: output directory is required for oci exporter"),
        ("type=oci,dest=/", "invalid output option: output: destination file is a directory"),
        ("type=image,dest=x", "invalid output option: output: output x is not supported by image exporter"),
        ("type=image,output=x", "output=x not supported for --output, you meant dest=x?"),
    ],
)
def test_outputs_that_cannot_work(text: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        output(text)
    assert str(caught.value) == error


def test_a_tar_stream_never_goes_to_a_terminal() -> None:
    leader, follower = pty.openpty()
    try:
        with (
            os.fdopen(follower, "wb") as terminal,
            pytest.raises(
                OptionError, match=r"output file is required for tar exporter\. refusing to write to console"
            ),
        ):
            parse_output("type=tar", stdout=terminal)
    finally:
        os.close(leader)


def test_caches() -> None:
    assert parse_export_cache("type=registry,Ref=a/b:c", environ={}) == RawCache(
        "registry", {"ref": "a/b:c", "mode": "min"}, unchecked=True
    )
    assert parse_export_cache("type=inline,mode=max", environ={}) == RawCache("inline", {"mode": "max"}, unchecked=True)
    assert parse_import_cache("type=registry,ref=a/b:c", environ={}) == RawCache(
        "registry", {"ref": "a/b:c"}, unchecked=True
    )


def test_a_bare_cache_reference_is_read_with_a_warning() -> None:
    warnings: list[str] = []
    assert parse_export_cache("a/b", environ={}, warn=warnings.append) == RawCache(
        "registry", {"mode": "min", "ref": "a/b"}, unchecked=True
    )
    assert parse_import_cache("a/b", environ={}, warn=warnings.append) == RawCache(
        "registry", {"ref": "a/b"}, unchecked=True
    )
    assert ["deprecated" in warning for warning in warnings] == [True, True]


@pytest.mark.parametrize(
    ("environ", "attrs"),
    [
        (
            {"ACTIONS_CACHE_URL": "u", "ACTIONS_RESULTS_URL": "r", "ACTIONS_RUNTIME_TOKEN": "s3cret"},
            {"url": "u", "token": "s3cret"},
        ),
        (
            {"ACTIONS_RESULTS_URL": "r", "ACTIONS_RUNTIME_TOKEN": "s3cret", "ACTIONS_CACHE_SERVICE_V2": "true"},
            {"url_v2": "r", "url": "r", "token": "s3cret"},
        ),
    ],
)
def test_githubs_cache_is_completed_from_the_environment(environ: dict[str, str], attrs: dict[str, str]) -> None:
    cache = parse_import_cache("type=gha", environ=environ)
    assert cache.attrs == attrs
    assert "s3cret" not in repr(cache)


@pytest.mark.parametrize(
    ("text", "environ", "error"),
    [
        ("ref=x,type=", {}, "--export-cache requires type=<type>"),
        ("foo=1,type=gha", {}, "cache with type gha requires url parameter to be set"),
        ("type=gha,url=x", {}, "cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN"),
        ("type=registry,ref", {}, "invalid value ref"),
    ],
)
def test_caches_that_cannot_work(text: str, environ: dict[str, str], error: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_export_cache(text, environ=environ)
    assert str(caught.value) == error


def test_options_of_the_frontend() -> None:
    environ = {"FOO": "from outside", "SOURCE_DATE_EPOCH": "7", "EMPTY": ""}
    items = ["target=x", "build-arg:FOO", "build-arg:MISSING", "build-arg:BAR=a=b", "build-arg:EMPTY", "target=y"]
    assert parse_opts(items, environ=environ) == {
        "build-arg:SOURCE_DATE_EPOCH": "7",
        "target": "y",
        "build-arg:FOO": "from outside",
        "build-arg:BAR": "a=b",
        "build-arg:EMPTY": "",
    }
    assert parse_opts(["build-arg:SOURCE_DATE_EPOCH=9"], environ=environ) == {"build-arg:SOURCE_DATE_EPOCH": "9"}


@pytest.mark.parametrize("item", ["foo", "build-arg:"])
def test_an_option_needs_a_value(item: str) -> None:
    with pytest.raises(OptionError, match=f"invalid opt: invalid value {item}"):
        parse_opts([item], environ={})


def test_local_directories(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert parse_locals([f"context={tmp_path}", f"a={tmp_path}/x/.."]) == {"context": tmp_path, "a": tmp_path / "x/.."}


def test_local_directories_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for item, error in (
        ("context", "invalid local: invalid value context"),
        (f"c={tmp_path}/no/x", f"invalid local: resolve : lstat {tmp_path}/no: no such file or directory"),
        (f"c={tmp_path}/file", f"invalid local: stat {tmp_path}/file: not a directory"),
    ):
        with pytest.raises(OptionError) as caught:
            parse_locals([item])
        assert str(caught.value) == error


def test_oci_layouts() -> None:
    assert parse_oci_layouts(["a=b=c"]) == {"a": Path("b=c")}
    with pytest.raises(OptionError, match="oci-layout option must be 'id=path/to/layout', instead had invalid x"):
        parse_oci_layouts(["x"])


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("id=a,src=f", SecretSource("a", "f")),
        ("ID=a,source=f,type=file", SecretSource("a", "f")),
        ("id=a,env=E", SecretSource("a", env="E")),
        ("id=a,type=env,src=E", SecretSource("a", env="E")),
        ("id=a", SecretSource("a")),
    ],
)
def test_secrets(text: str, secret: SecretSource) -> None:
    assert parse_secret(text) == secret


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("type=x", 'unsupported secret type "x"'),
        ("Foo=x", "unexpected key 'foo' in 'Foo=x'"),
        ("src=f", "secret missing ID"),
        ('"', 'failed to parse csv secret: parse error on line 1, column 2: extraneous or missing " in quoted-field'),
    ],
)
def test_secrets_that_cannot_work(text: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_secret(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("text", "ssh"),
    [
        ("default", SshSource("default")),
        ("default=/agent.sock", SshSource("default", ("/agent.sock",))),
        ("a=k1,k2,raw=false", SshSource("a", ("k1", "k2"))),
        ("a=/sock,raw=true", SshSource("a", ("/sock",), raw=True)),
    ],
)
def test_ssh(text: str, ssh: SshSource) -> None:
    assert parse_ssh(text) == ssh


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a=/x,raw=true,/y", 'raw mode must supply exactly one socket path for "a"'),
        ("a=raw=x", "invalid value for 'raw': x: strconv.ParseBool: parsing \"x\": invalid syntax"),
    ],
)
def test_ssh_that_cannot_work(text: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_ssh(text)
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["network.host", "security.insecure", "device", "device=", "device=gpu,alias=g"])
def test_entitlements(text: str) -> None:
    assert parse_allow(text) == text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "unknown entitlement foo"),
        ("network.host=x", "unknown entitlement network.host=x"),
        ("device=gpu,x", 'invalid device config "x"'),
        ("device=gpu,x=y", 'unknown device config key "x"'),
    ],
)
def test_entitlements_that_are_none(text: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_allow(text)
    assert str(caught.value) == error


def test_where_a_secret_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "other"):
        (tmp_path / name).touch()
    environ = {"TOKEN": "from env"}

    def value(text: str) -> object:
        secret = secret_from(parse_secret(text), environ=environ)
        return secret.function() if isinstance(secret, SecretCallback) else secret

    assert value("id=a,env=TOKEN") == b"from env"
    assert value("id=TOKEN") == b"from env"
    assert value("id=TOKEN,src=file") == SecretFile(Path("file"))
    assert value("id=other") == SecretFile(Path("other"))
    assert value("id=a,env=MISSING") == b"", "the reference gives an empty secret too"


def test_a_secret_file_that_cannot_be_used(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(500 * 1024 + 1))
    for text, error in (
        (
            f"id=a,src={tmp_path}/none",
            f"failed to stat {tmp_path}/none: stat {tmp_path}/none: no such file or directory",
        ),
        (f"id=a,src={large}", "secret a too big. max size 500KiB"),
    ):
        with pytest.raises(OptionError) as caught:
            secret_from(parse_secret(text), environ={})
        assert str(caught.value) == error


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dest, error in (
        (tmp_path, "destination file is a directory"),
        (tmp_path / "none/x", f"open {tmp_path}/none/x: no such file or directory"),
        (
            tmp_path / "file/x",
            f"invalid destination file: {tmp_path}/file/x: stat {tmp_path}/file/x: not a directory",
        ),
    ):
        with pytest.raises(OptionError) as caught:
            parse_output(f"type=oci,dest={dest}", stdout=io.BytesIO())
        assert str(caught.value) == f"invalid output option: output: {error}"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_standard_output_may_be_closed() -> None:
    with pytest.raises(OptionError, match="standard output is closed"):
        parse_output("type=tar", stdout=None)


def test_which_agent_is_meant(tmp_path: Path) -> None:
    sockets = {}
    for name in ("env", "given"):
        sockets[name] = tmp_path / name
        with socket.socket(socket.AF_UNIX) as stream:
            stream.bind(str(sockets[name]))
    environ = {"SSH_AUTH_SOCK": str(sockets["env"])}
    assert agent_from(parse_ssh("default"), environ=environ) == SshAgent(sockets["env"])
    assert agent_from(parse_ssh(f"x={sockets['given']},raw=true"), environ={}) == SshAgent(sockets["given"], raw=True)
    assert agent_from(parse_ssh("default="), environ=environ) == SshAgent(sockets["env"])
    for text, error in (
        ("default", "{default [] false}: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"),
        (
            "x=/none",
            '{x [/none] false}: failed to convert agent config for ID: "x": stat /none: no such file or directory',
        ),
    ):
        with pytest.raises(OptionError) as caught:
            agent_from(parse_ssh(text), environ={})
        assert str(caught.value) == f"failed to convert agent config {error}"
    key = tmp_path / "key"
    key.touch()
    assert agent_from(parse_ssh(f"x={key}"), environ={}) == SshKeys((key,))
    with pytest.raises(OptionError, match="invalid combination of keys and sockets"):
        agent_from(parse_ssh(f"default={key},{sockets['given']}"), environ={})
