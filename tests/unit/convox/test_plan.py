"""From a manifest to the images to build, and every mistake found before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildkit_client.protocol.patterns import parse_ignore_file
from convox.errors import ManifestError, UsageError
from convox.manifest import parse_manifest
from convox.plan import Plan, cache_ref, image_tag, make_plan
from convox.plan_files import AppFolder
from tests.support.privileges import open_to_others, unprivileged

BUILD_ID = "BABCDEFGHIJ"


def write(folder: Path, **files: str) -> None:
    """Write files; ``__`` in a name stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that other users can enter."""
    return open_to_others(tmp_path)


def plan(
    folder: Path,
    manifest: str,
    *,
    env: dict[str, str] | None = None,
    args: dict[str, str] | None = None,
    is_development: bool = False,
    repository: str = "registry.example.com:5000/team/app",
) -> Plan:
    values = (env or {}) | (args or {})
    return make_plan(
        parse_manifest(manifest, values),
        folder,
        repository=repository,
        build_id=BUILD_ID,
        app_env=env or {},
        build_args=args or {},
        is_development=is_development,
    )


def error(folder: Path, manifest: str, **values: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        plan(folder, manifest, env=values)
    return caught.value


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# references


@pytest.mark.parametrize(
    "repository", ["localhost:5000/app", "registry.example.com/a.b/app", "[::1]:5000/app", "127.0.0.1:5000/app", "app"]
)
def test_references_keep_the_registry_host_whole(repository: str) -> None:
    assert image_tag(repository, "web", BUILD_ID) == f"{repository}:web.{BUILD_ID}"
    assert cache_ref(repository, "web") == f"{repository}:web.buildcache"


# what is built


def test_one_service(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM scratch\n")
    before = listing(tmp_path)
    result = plan(tmp_path, "services:\n  web: {}\n")
    (image,) = result.images
    assert image.services == ("web",)
    assert image.context_path == tmp_path.resolve()
    assert (image.dockerfile, image.inline_dockerfile, image.image, image.target) == ("Dockerfile", None, "", "")
    assert image.tags == (f"registry.example.com:5000/team/app:web.{BUILD_ID}",)
    assert image.cache_refs == ("registry.example.com:5000/team/app:web.buildcache",)
    assert image.line == 2
    assert result.warnings == ()
    assert result.image_for("web") is image
    with pytest.raises(KeyError):
        result.image_for("api")
    assert listing(tmp_path) == before


def test_identical_builds_are_built_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, web__Dockerfile="FROM scratch\nARG A\n", web__Dockerfile2="FROM scratch\n")
    (tmp_path / "link").symlink_to("web")
    result = plan(
        tmp_path,
        """
services:
  web: {build: ./web}
  other: {build: {path: web, manifest: Dockerfile2}}
  worker: {build: {path: web/../web/, manifest: ./Dockerfile}}
  linked: {build: link}
  args: {build: {path: web, args: [A=1]}}
  same-args: {build: {path: web, args: [A=1, UNDECLARED=2]}}
""",
    )
    assert [image.services for image in result.images] == [
        ("web", "worker", "linked"),
        ("other",),
        ("args", "same-args"),
    ]
    assert [tag.rpartition(":")[2] for tag in result.images[0].tags] == [
        f"{name}.{BUILD_ID}" for name in ("web", "worker", "linked")
    ]
    assert [ref.rpartition(":")[2] for ref in result.images[2].cache_refs] == [
        "args.buildcache",
        "same-args.buildcache",
    ]


def test_an_image_service_is_built_from_a_dockerfile_that_is_no_file(tmp_path: Path) -> None:
    result = plan(
        tmp_path, "services:\n  db: {image: 'postgres:16'}\n  cache: {image: redis}\n  db2: {image: 'postgres:16'}\n"
    )
    assert [(image.services, image.inline_dockerfile) for image in result.images] == [
        (("db", "db2"), b"FROM postgres:16\n"),
        (("cache",), b"FROM redis\n"),
    ]
    assert result.images[0].context_path == tmp_path.resolve()
    assert result.images[0].dockerfile == "Dockerfile"
    assert listing(tmp_path) == []


def test_an_image_service_and_a_build_of_the_app_folder_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM redis\n")
    assert len(plan(tmp_path, "services: {web: {}, cache: {image: redis}}").images) == 2


@pytest.mark.parametrize("is_development", [True, False])
def test_the_development_stage(tmp_path: Path, is_development: bool) -> None:
    write(
        tmp_path,
        one__Dockerfile="FROM a AS Development\nFROM b\n",
        two__Dockerfile="FROM a AS development-base\nFROM b # as development\n",
    )
    result = plan(tmp_path, "services: {one: {build: one}, two: {build: two}}", is_development=is_development)
    assert [image.target for image in result.images] == ["development" if is_development else "", ""]


def test_build_arguments_reach_those_that_declare_them(tmp_path: Path) -> None:
    write(tmp_path, a__Dockerfile="FROM x\narg ONE TWO=2\nARG SHARED\n", b__Dockerfile="FROM x\nARG SHARED")
    result = plan(
        tmp_path,
        "services: {a: {build: {path: a, args: ['TWO=a b', NOT=1]}}, b: {build: b}}",
        env={"ONE": "1", "OTHER": "x"},
        args={"SHARED": "s"},
    )
    assert [dict(image.build_args) for image in result.images] == [
        {"ONE": "1", "SHARED": "s", "TWO": "a b"},
        {"SHARED": "s"},
    ]


def test_the_ignore_file_of_the_app_folder(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\n", sub__web__Dockerfile="FROM x\n")
    assert plan(tmp_path, "services: {web: {}}").ignore == ()
    write(tmp_path, **{".dockerignore": "\ufeff# no\n\n  /a//b/ \r\n! ./c\n**/*.log\n/\n!\n"})
    found = plan(tmp_path, "services: {web: {}, api: {build: sub/web}}")
    assert found.ignore == ("a/b", "!c", "**/*.log", "/", "!")
    assert [found.ignore_prefix(image) for image in found.images] == ["", "sub/web"]


@given(st.binary(max_size=60) | st.text(alphabet="!#/.* a\t\r\n\x1c\xa0\u3000", max_size=30).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ignore_files_are_read_as_the_builder_reads_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".dockerignore").write_bytes(data)
    expected = [pattern.decode("utf-8", "surrogateescape") for pattern in parse_ignore_file(data)]
    assert AppFolder(tmp_path, "convox.yml").ignore_patterns() == tuple(pattern for pattern in expected if pattern)


@pytest.mark.parametrize(
    ("patterns", "is_excluded"),
    [
        ("sub", True),
        ("sub/web/", True),
        ("/sub\nother", True),
        ("sub/we", False),
        ("sub/web/x", False),
        ("sub\n!sub/web", False),
        ("sub\n!x\nsub", True),
        ("**/*.log", False),
    ],
)
def test_a_build_path_that_is_excluded(tmp_path: Path, patterns: str, is_excluded: bool) -> None:
    write(tmp_path, Dockerfile="FROM x\n", sub__web__Dockerfile="FROM x\n")
    (tmp_path / ".dockerignore").write_text(patterns)
    manifest = "services:\n  root: {}\n  web:\n    build: sub/web\n  other:\n    image: alpine\n"
    if not is_excluded:
        assert len(plan(tmp_path, manifest).images) == 3
        return
    expected = "convox.yml:4: service web: build path sub/web is excluded by the app's .dockerignore"
    assert str(error(tmp_path, manifest)) == expected


def test_an_ignore_file_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\n")
    (tmp_path / ".dockerignore").mkdir()
    caught = error(tmp_path, "services: {web: {}}")
    assert (str(caught), caught.why) == ("cannot read .dockerignore", "it is a folder")


def test_some_services_and_a_stage(tmp_path: Path) -> None:
    write(tmp_path, a__Dockerfile="FROM x AS Build\nFROM y\n", b__Dockerfile="FROM x\n")
    manifest = parse_manifest("services:\n  a:\n    build: a\n  b:\n    build: b\n  c:\n    image: alpine\n", {})

    def choose(**options: Any) -> Plan:
        return make_plan(
            manifest, tmp_path, repository="r/app", build_id=BUILD_ID, app_env={}, build_args={}, **options
        )

    assert [image.services for image in choose(only=["c", "a"]).images] == [("a",), ("c",)]
    assert [image.target for image in choose(only=["c", "a"], target="build").images] == ["build", ""]
    assert [image.target for image in choose(target="0").images] == ["0", "0", ""]
    with pytest.raises(ManifestError, match=r"convox\.yml:5: service b: Dockerfile has no stage build") as caught:
        choose(target="build")
    assert caught.value.why == "its stages have no names"
    with pytest.raises(ManifestError, match="no stage nope") as caught:
        choose(target="nope")
    assert caught.value.why == "its stages are build"
    with pytest.raises(UsageError, match=r"there is no service d in convox\.yml"):
        choose(only=["d"])
    with pytest.raises(UsageError, match="different stages"):
        choose(target="build", is_development=True)


# warnings


def test_arguments_that_look_like_secrets_are_named_once_and_never_shown(tmp_path: Path) -> None:
    write(tmp_path, a__Dockerfile="FROM x\nARG NPM_TOKEN\n", b__Dockerfile="FROM x\nARG NPM_TOKEN OK\n")
    result = plan(
        tmp_path,
        "services: {a: {build: a}, b: {build: b}}",
        env={"NPM_TOKEN": "hunter2", "DB_PASSWORD": "hunter2", "OK": "1"},
    )
    (warning,) = result.warnings
    assert warning == (
        "build argument NPM_TOKEN looks like a secret, and build arguments can be read from the image's history "
        "(services a, b)"
    )
    assert "hunter2" not in repr(result)


def test_arguments_that_nothing_uses(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\nARG USED\n")
    result = plan(
        tmp_path,
        "environment: [ENV]\nservices: {web: {labels: {a: '${FILLED}'}}}",
        args={"USED": "1", "ENV": "1", "FILLED": "1", "TYPO": "hunter2", "NO_PROXY": "x"},
    )
    assert result.warnings == (
        "build argument TYPO is not used: no Dockerfile declares it and convox.yml does not name it",
    )


def test_warnings_of_the_manifest_are_passed_on(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\n")
    assert plan(tmp_path, "services: {web: {image: '${X}'}}").warnings == (
        "convox.yml:1: service web has an empty image, so it is built from .",
    )


# mistakes


def test_no_dockerfile(tmp_path: Path) -> None:
    write(
        tmp_path,
        **{"web/Dockerfile.dev": "", "api.dockerfile": "", "node_modules/Dockerfile": ""},
    )
    exc = error(tmp_path, "services:\n  web:\n    port: 1\n    build: ./web\n")
    assert str(exc) == "convox.yml:4: service web: no Dockerfile at web/Dockerfile"
    write(tmp_path, **{"deep/a/b/c/d/Dockerfile": ""})
    exc = error(tmp_path, "services:\n  web:\n    build: {path: ., manifest: Dockerfile.prod}\n")
    assert str(exc) == "convox.yml:3: service web: no Dockerfile at Dockerfile.prod"
    assert exc.hint == "there is api.dockerfile, web/Dockerfile.dev; name it with build.path and build.manifest"


def test_no_dockerfile_anywhere(tmp_path: Path) -> None:
    assert error(tmp_path, "services: {web: {}}").hint == "write a Dockerfile, or name the image with image:"


def test_a_lower_case_dockerfile_is_pointed_at(tmp_path: Path) -> None:
    write(tmp_path, dockerfile="")
    assert "there is dockerfile;" in error(tmp_path, "services: {web: {}}").hint


def test_no_context(tmp_path: Path) -> None:
    write(tmp_path, frontend__x="", backend__x="")
    exc = error(tmp_path, "services:\n  web:\n    build: ./web\n")
    assert str(exc) == "convox.yml:3: service web: build path ./web does not exist"
    assert exc.hint == "folders there: backend, frontend"


def test_a_context_that_is_a_file(tmp_path: Path) -> None:
    write(tmp_path, **{"Dockerfile.web": "", "readme": ""})
    exc = error(tmp_path, "services:\n  web:\n    build: ./Dockerfile.web\n")
    assert str(exc) == "convox.yml:3: service web: build path ./Dockerfile.web is not a folder"
    assert exc.hint == "write the folder as build.path and Dockerfile.web as build.manifest"
    assert error(tmp_path, "services: {web: {build: readme}}").hint == ""
    assert "cannot be used" in str(error(tmp_path, "services: {web: {build: readme/x}}"))


@pytest.mark.parametrize("path", ["..", "../other", "a/../../other", "./../", "../app"])
def test_a_context_outside(tmp_path: Path, path: str) -> None:
    write(tmp_path, app__Dockerfile="FROM x\n", other__Dockerfile="FROM x\n", app__a__x="")
    exc = error(tmp_path / "app", f"services:\n  web:\n    build: {path}\n")
    assert str(exc) == f"convox.yml:3: service web: build path {path} leads outside the app's folder"
    assert exc.why and exc.hint


def test_a_symlink_to_a_context_outside(tmp_path: Path) -> None:
    write(tmp_path, app__x="", other__Dockerfile="FROM x\n")
    (tmp_path / "app" / "web").symlink_to("../other")
    exc = error(tmp_path / "app", "services: {web: {build: web}}")
    assert str(exc) == "convox.yml:1: service web: build path web leads outside the app's folder"
    assert exc.why == f"a symlink leads to {tmp_path.resolve() / 'other'}"


def test_symlinks_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "web").symlink_to("web")
    assert "build path web cannot be used" in str(error(tmp_path, "services: {web: {build: web}}"))


def test_a_slash_in_front_counts_from_the_app_folder(tmp_path: Path) -> None:
    write(tmp_path, etc__Dockerfile="FROM x\n")
    (image,) = plan(tmp_path, "services: {web: {build: {path: /etc, manifest: /Dockerfile}}}").images
    assert (image.context_path, image.dockerfile) == (tmp_path.resolve() / "etc", "Dockerfile")


@pytest.mark.parametrize("manifest", ["../Dockerfile", "a/../../Dockerfile", ".."])
def test_a_dockerfile_outside_its_context(tmp_path: Path, manifest: str) -> None:
    write(tmp_path, Dockerfile="FROM x\n", web__x="")
    exc = error(tmp_path, f"services: {{web: {{build: {{path: web, manifest: {manifest}}}}}}}")
    assert str(exc) == f"convox.yml:1: service web: Dockerfile {manifest} leads outside its build path web"
    assert "build.manifest relative to it" in exc.hint


def test_a_symlink_to_a_dockerfile(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\n", web__inside="FROM x\nARG A\n")
    (tmp_path / "web" / "Dockerfile").symlink_to("inside")
    (image,) = plan(tmp_path, "services: {web: {build: web}}", env={"A": "1"}).images
    assert dict(image.build_args) == {"A": "1"}
    (tmp_path / "web" / "Outside").symlink_to("../Dockerfile")
    exc = error(tmp_path, "services: {web: {build: {path: web, manifest: Outside}}}")
    assert "leads outside its build path web" in str(exc)


def test_a_dockerfile_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").mkdir()
    exc = error(tmp_path, "services: {web: {}}")
    assert (str(exc), exc.why) == ("convox.yml:1: service web: Dockerfile Dockerfile cannot be read", "it is a folder")
    (tmp_path / "Dockerfile").rmdir()
    os.mkfifo(tmp_path / "Dockerfile")
    assert error(tmp_path, "services: {web: {}}").why == "it is not a regular file"


def test_what_may_not_be_read(shared: Path) -> None:
    folder = shared / "app"
    write(folder, web__Dockerfile="FROM x\n", web__sub__Dockerfile="FROM x\n")
    manifest = "services: {web: {build: web}}"
    for path, what, why in (
        (folder / "web" / "Dockerfile", "service web: Dockerfile Dockerfile cannot be read", "Permission denied"),
        (
            folder / "web",
            "service web: build path web cannot be used",
            "the folder cannot be listed: Permission denied",
        ),
        (folder, f"cannot use {folder}", "the folder cannot be listed: Permission denied"),
    ):
        path.chmod(0)
        with unprivileged():
            exc = error(folder, manifest)
        assert (str(exc).removeprefix("convox.yml:1: "), exc.why) == (what, why)
        path.chmod(0o755)
    (folder / "web").chmod(0)
    with unprivileged():
        exc = error(folder, "services: {web: {build: web/sub}}")
    assert (str(exc), exc.why) == ("convox.yml:1: service web: build path web/sub cannot be used", "Permission denied")
    (folder / "web").chmod(0o755)


@pytest.mark.parametrize(
    "image",
    [
        "a b",
        "https://x/y",
        "u:p@h/x",
        "x@y",
        "x::y",
        "x/",
        "x:",
        "a//b",
        "x/-y",
        "x\\nRUN evil",
        "--platform=x",
        "-x",
        "$X",
        "x y:1",
        "\\\\",
        "x#y",
        "'",
        "\\u00e9",
    ],
)
def test_an_image_that_is_no_reference(tmp_path: Path, image: str) -> None:
    exc = error(tmp_path, f'services:\n  db:\n    image: "{image}"\n')
    assert str(exc).startswith("convox.yml:3: service db: image: ")
    assert str(exc).endswith(" is not an image reference")


def test_a_value_put_in_for_an_image_is_not_shown(tmp_path: Path) -> None:
    exc = error(tmp_path, "services: {db: {image: '${IMAGE}'}}", IMAGE="https://user:hunter2@host/x")
    assert str(exc) == "convox.yml:1: service db: image: the value is not an image reference"


@pytest.mark.parametrize("image", ["x", "x:1", "a.b:5000/c/d-e_f:1.2", "x:1@sha256:" + "0" * 64, "[::1]:5000/x", "X/Y"])
def test_an_image_that_is_one(tmp_path: Path, image: str) -> None:
    assert plan(tmp_path, f"services: {{db: {{image: '{image}'}}}}").images[0].image == image


def test_a_name_too_long_for_a_tag(tmp_path: Path) -> None:
    write(tmp_path, Dockerfile="FROM x\n")
    good = plan(tmp_path, f"services: {{{'a' * 116}: {{}}}}").images[0]
    assert max(len(ref.rpartition(":")[2]) for ref in (*good.tags, *good.cache_refs)) == 128
    assert "too long to be part of a tag" in str(error(tmp_path, f"services: {{{'a' * 117}: {{}}}}"))


def test_the_app_folder_itself(tmp_path: Path) -> None:
    manifest = "services: {web: {}}"
    exc = error(tmp_path / "nowhere", manifest)
    assert str(exc) == f"no such folder: {tmp_path / 'nowhere'}"
    (tmp_path / "file").touch()
    assert str(error(tmp_path / "file", manifest)) == f"{tmp_path / 'file'} is not a folder"
    (tmp_path / "circle").symlink_to("circle")
    assert "cannot use" in str(error(tmp_path / "circle", manifest))


def test_an_app_folder_behind_a_symlink(tmp_path: Path) -> None:
    write(tmp_path, app__Dockerfile="FROM x\n")
    (tmp_path / "link").symlink_to("app")
    assert plan(tmp_path / "link", "services: {web: {}}").app_path == tmp_path.resolve() / "app"
