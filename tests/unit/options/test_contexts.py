"""Contexts: what the frontend is told, and what the client has to serve for it."""

import io
from pathlib import Path

import pytest

from buildkit_client._proto import ops_pb2
from buildkit_client.errors import OptionError
from buildkit_client.options import (
    DockerfileFrontend,
    DockerfileText,
    GatewayFrontend,
    GitContext,
    HttpContext,
    ImageContext,
    InputFile,
    LocalDirectory,
    OciLayoutContext,
    TarContext,
)
from buildkit_client.options.contexts import context_name

APP = Path("/src/app")
REPOSITORY = "https://example.com/app.git"
DIGEST = "sha256:" + "a" * 64


def test_a_directory_holds_the_dockerfile_too():
    frontend = DockerfileFrontend(context=APP)
    assert frontend.to_attrs() == {}
    assert frontend.needs().local_dirs == {"context": APP, "dockerfile": APP}
    apart = DockerfileFrontend(context=APP, dockerfile=Path("/src/docker"))
    assert apart.to_attrs() == {}
    assert apart.needs().local_dirs == {"context": APP, "dockerfile": Path("/src/docker")}
    assert DockerfileFrontend().needs().local_dirs == {}


def test_a_directory_may_come_with_patterns():
    directory = LocalDirectory(APP, ["*.log"])
    assert DockerfileFrontend(context=directory).needs().local_dirs == {"context": directory, "dockerfile": directory}


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, REPOSITORY),
        ({"ref": "main"}, f"{REPOSITORY}#main"),
        ({"ref": "feature/x", "subdir": "a b/c"}, f"{REPOSITORY}#feature/x:a%20b/c"),
        ({"subdir": "web"}, f"{REPOSITORY}#:web"),
        ({"ref": "v1", "checksum": "abc"}, f"{REPOSITORY}?checksum=abc#v1"),
        (
            {"checksum": "abc", "keep_git_dir": True, "submodules": False, "mtime": "commit", "fetch_by_commit": True},
            f"{REPOSITORY}?checksum=abc&mtime=commit&keep-git-dir=true&submodules=false&fetch-by-commit=true",
        ),
    ],
)
def test_a_repository_is_one_address(options, url):
    context = GitContext(url=REPOSITORY, **options)
    assert context.to_url() == url
    attrs = DockerfileFrontend(context=context).to_attrs()
    assert attrs.pop("context") == url
    # A frontend that does not read the query would build something else.
    assert attrs == ({"frontend.caps": "moby.buildkit.frontend.gitquerystring+forward"} if "?" in url else {})


def test_a_repository_by_ssh():
    assert GitContext(url="git@example.com:app.git", ref="v1", subdir="a").to_url() == "git@example.com:app.git#v1:a"
    assert GitContext(url="ssh://git@example.com/app.git").to_url() == "ssh://git@example.com/app.git"


@pytest.mark.parametrize(
    "options",
    [
        {"url": "example.com/app"},
        {"url": "https://example.com/app"},
        {"url": "file:///app.git"},
        {"url": f"{REPOSITORY}#main"},
        {"url": f"{REPOSITORY}?ref=main"},
        {"url": REPOSITORY, "ref": "a:b"},
        {"url": REPOSITORY, "fetch_by_commit": True},
    ],
)
def test_what_is_no_repository_is_refused(options):
    with pytest.raises(OptionError):
        GitContext(**options)


def test_addresses_are_not_shown():
    assert "hunter2" not in repr(GitContext(url="https://me:hunter2@example.com/app.git"))
    assert "hunter2" not in repr(HttpContext("https://me:hunter2@example.com/app.tar"))
    with pytest.raises(OptionError) as caught:
        GitContext(url="https://me:hunter2@example.com/app")
    assert "hunter2" not in f"{caught.value} {caught.value.why} {caught.value.hint}"


def test_an_archive_from_a_server():
    assert DockerfileFrontend(context=HttpContext("https://example.com/a.tar.gz")).to_attrs() == {
        "context": "https://example.com/a.tar.gz"
    }
    for url in ("ftp://example.com/a", "example.com", REPOSITORY):
        with pytest.raises(OptionError):
            HttpContext(url)


def test_an_archive_from_a_stream():
    stream = io.BytesIO(b"tar")
    context = TarContext(stream)
    frontend = DockerfileFrontend(context=context, context_subdir="sub")
    assert frontend.to_attrs() == {"context": f"http://buildkit-session/{context.id}", "contextsubdir": "sub"}
    assert frontend.needs().uploads == {context.id: stream}
    assert TarContext(stream).id != context.id


def test_a_dockerfile_alone_is_the_whole_context():
    text = DockerfileText("FROM scratch\n")
    frontend = DockerfileFrontend(context=text)
    assert frontend.to_attrs() == {"context": f"http://buildkit-session/{text.id}"}
    for _ in range(2):  # a frontend may be used again, so each time there is a fresh stream
        assert frontend.needs().uploads[text.id].read() == b"FROM scratch\n"


def test_a_dockerfile_beside_a_directory_is_an_input():
    frontend = DockerfileFrontend(context=APP, dockerfile=DockerfileText(b"FROM scratch"), filename="Other")
    assert frontend.to_attrs() == {"filename": "Other"}
    needs = frontend.needs()
    assert needs.local_dirs == {"context": APP}
    assert needs.inputs == {"dockerfile": InputFile("Other", b"FROM scratch")}


def test_an_input_is_a_graph_that_makes_the_file():
    definition = InputFile("Dockerfile", b"FROM scratch").to_proto()
    made, head = (ops_pb2.Op.FromString(one) for one in getattr(definition, "def"))
    mkfile = made.file.actions[0].mkfile
    assert (mkfile.path, mkfile.mode, mkfile.data) == ("/Dockerfile", 0o644, b"FROM scratch")
    assert head.inputs[0].digest in definition.metadata


def test_a_dockerfile_beside_a_remote_context_comes_from_a_directory():
    frontend = DockerfileFrontend(context=GitContext(url=REPOSITORY), dockerfile=APP)
    assert frontend.to_attrs() == {"context": REPOSITORY, "dockerfilekey": "dockerfile"}
    assert frontend.needs().local_dirs == {"dockerfile": APP}
    with pytest.raises(OptionError, match="text"):
        DockerfileFrontend(context=GitContext(url=REPOSITORY), dockerfile=DockerfileText("")).to_attrs()
    with pytest.raises(OptionError, match="context_subdir"):
        DockerfileFrontend(context=APP, context_subdir="x").to_attrs()


def test_named_contexts():
    layout = OciLayoutContext(Path("/images"), tag="v1")
    frontend = DockerfileFrontend(
        context=APP,
        contexts={
            "docker.io/library/alpine:latest": ImageContext("example.com/alpine:3"),
            "debian:12::linux/aarch64": ImageContext("scratch"),
            "files": Path("/files"),
            "context": Path("/other"),
            "base": layout,
            "fixed": OciLayoutContext(Path("/images"), digest=DIGEST),
            "repo": GitContext(url=REPOSITORY, ref="v1"),
            "page": HttpContext("https://example.com/page"),
            "graph": "input:graph",
        },
    )
    assert frontend.to_attrs() == {
        "context:alpine": "docker-image://example.com/alpine:3",
        "context:debian:12::linux/arm64": "docker-image://scratch",
        "context:files": "local:files",
        "context:context": "local:_context",
        "context:base": f"oci-layout://{layout.store}:v1",
        "context:fixed": f"oci-layout://{layout.store}@{DIGEST}",
        "context:repo": f"{REPOSITORY}#v1",
        "context:page": "https://example.com/page",
        "context:graph": "input:graph",
        "frontend.caps": "moby.buildkit.frontend.contexts+forward",
    }
    needs = frontend.needs()
    assert needs.local_dirs == {
        "context": APP,
        "dockerfile": APP,
        "files": Path("/files"),
        "_context": Path("/other"),
    }
    assert needs.layouts == {layout.store: Path("/images")}


def test_a_gateway_has_the_same_contexts():
    frontend = GatewayFrontend(source="x", context=APP, contexts={"a": ImageContext("b")})
    assert frontend.to_attrs()["context:a"] == "docker-image://b"
    assert frontend.needs() == DockerfileFrontend(context=APP, contexts={"a": ImageContext("b")}).needs()


@pytest.mark.parametrize(
    "contexts",
    [
        {"Upper": APP},
        {"": APP},
        {"a::nonsense": APP},
        {"alpine": APP, "alpine:latest": APP},
        {"a": "no scheme"},
        {"a": TarContext(io.BytesIO())},
        {"a": GitContext(url="ssh://git@example.com/app.git")},
    ],
)
def test_what_cannot_be_a_named_context_is_refused(contexts):
    with pytest.raises(OptionError):
        DockerfileFrontend(contexts=contexts).to_attrs()


def test_an_image_that_is_none_is_refused():
    with pytest.raises(OptionError):
        ImageContext("Not An Image")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("alpine", "alpine"),
        ("alpine:latest", "alpine"),
        ("docker.io/library/alpine:3", "alpine:3"),
        ("ghcr.io/a/b:latest", "ghcr.io/a/b"),
        ("stage::linux/x86_64", "stage::linux/amd64"),
        ("stage::linux/arm", "stage::linux/arm/v7"),
    ],
)
def test_names_as_the_frontend_looks_them_up(given, name):
    assert context_name(given) == name


@pytest.mark.parametrize("context", [".", "./app", "/srv/app", "app", "", 3])
def test_a_folder_given_as_text_is_refused_and_not_passed_over(context):
    with pytest.raises(OptionError, match="cannot be the main context"):
        DockerfileFrontend(context=context).to_attrs()


@pytest.mark.parametrize(
    "context", ["https://h/x.git#main", "git@h:x.git", "github.com/moby/buildkit", "http://h/x.tar"]
)
def test_an_address_given_as_text_is_sent_as_it_is(context):
    assert DockerfileFrontend(context=context).to_attrs()["context"] == context


def test_a_dockerfiles_bytes_that_are_no_utf8_are_kept():
    assert DockerfileText("LABEL a=\udce9").data == b"LABEL a=\xe9"


def test_an_input_in_a_folder_comes_with_the_folder():
    definition = InputFile("docker/./web/Dockerfile", b"FROM scratch").to_proto()
    made = ops_pb2.Op.FromString(getattr(definition, "def")[0])
    folder, file = made.file.actions
    assert (folder.mkdir.path, folder.mkdir.makeParents, folder.input, folder.output) == ("/docker/web", True, -1, -1)
    assert (file.mkfile.path, file.input, file.output) == ("/docker/web/Dockerfile", 0, 0)


def test_the_login_in_an_address_is_not_shown():
    assert "hush" not in repr(DockerfileFrontend(context="https://me:hush@host.test/app.git"))
