"""convox.yml to a Manifest: what is read, what is put in, and what every mistake is called."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import pytest

from convox.errors import ManifestError
from convox.manifest import (
    MAX_SIZE_BYTES,
    BuildSpec,
    Manifest,
    interpolate,
    load_manifest,
    missing_environment,
    parse_manifest,
    service_names,
)
from tests.support.privileges import open_to_others, unprivileged


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that other users can enter."""
    return open_to_others(tmp_path)


def parse(text: str, **env: str) -> Manifest:
    return parse_manifest(textwrap.dedent(text).removeprefix("\n"), env)


def error(text: str, **env: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse(text, **env)
    return caught.value


def everything(exc: BaseException) -> str:
    return f"{exc} {getattr(exc, 'why', '')} {getattr(exc, 'hint', '')} {exc!r}"


# what a service can say


def test_services_keep_the_order_of_the_file_and_know_their_lines() -> None:
    manifest = parse("""
        services:
          web: {}
          api:
            port: 3000
          a1: {}
        """)
    assert [(service.name, service.line) for service in manifest.services] == [("web", 2), ("api", 3), ("a1", 5)]


@pytest.mark.parametrize(
    ("body", "build"),
    [
        ("{}", BuildSpec(line=2)),
        ("", BuildSpec(line=2)),
        ("{build: }", BuildSpec(line=2)),
        ("{build: ''}", BuildSpec(line=2)),
        ("{build: ./web}", BuildSpec(path="./web", line=2)),
        ("{build: {}}", BuildSpec(line=2)),
        ("{build: {path: web}}", BuildSpec(path="web", line=2)),
        ("{build: {manifest: Dockerfile.production}}", BuildSpec(manifest="Dockerfile.production", line=2)),
        ("{build: {path: ~, manifest: ~, args: ~}}", BuildSpec(line=2)),
        ("{build: {path: 1.10, manifest: yes}}", BuildSpec(path="1.10", manifest="yes", line=2)),
        ("{build: {args: [A=1, B, 3, ~, 'C=a b']}}", BuildSpec(args=("A=1", "B", "3", "C=a b"), line=2)),
        ("{build: {path: ., target: x, cache: [y]}}", BuildSpec(line=2)),
    ],
)
def test_build(body: str, build: BuildSpec) -> None:
    (service,) = parse(f"services:\n  web: {body}\n").services
    assert service.build == build
    assert service.image == ""


def test_the_line_of_a_build_is_that_of_its_key() -> None:
    (service,) = parse("services:\n  web:\n    port: 1\n    build:\n      path: x\n").services
    assert service.build is not None
    assert service.build.line == 4


def test_an_image_wins_over_a_build() -> None:
    (service,) = parse("services:\n  db:\n    build: ./db\n    image: postgres:16\n").services
    assert (service.image, service.build, service.image_line) == ("postgres:16", None, 4)


def test_a_number_is_an_image_as_written() -> None:
    (service,) = parse("services: {db: {image: 3.10}}").services
    assert service.image == "3.10"


def test_an_image_that_became_empty_is_built_with_a_warning() -> None:
    manifest = parse("services:\n  web:\n    image: ${IMAGE}\n")
    assert manifest.services[0].build == BuildSpec(line=2)
    assert manifest.warnings == ("convox.yml:3: service web has an empty image, so it is built from .",)
    assert parse("services:\n  web:\n    image: ${IMAGE}\n", IMAGE="x").warnings == ()


def test_unknown_keys_are_read_past() -> None:
    manifest = parse("""
        appSettings: {awsLogs: {disable: true}}
        services:
          web: {build: ., health: {grace: 1}, whatever: [1, {a: b}]}
        x-mine: [1]
        """)
    assert [service.name for service in manifest.services] == ["web"]


def test_a_number_can_name_a_service_as_far_as_reading_goes() -> None:
    assert "service name 1 invalid" in str(error("services: {1: {}}"))


def test_only_the_first_document_counts() -> None:
    assert [service.name for service in parse("services: {a: {}}\n---\nservices: {b: {}}\n").services] == ["a"]


def test_anchors_and_merge_keys() -> None:
    manifest = parse("""
        x-base: &base
          build: ./base
          environment: [A=1]
        services:
          web:
            <<: *base
            build: ./web
          api:
            <<: [{image: first}, {image: second}]
          job: *base
        """)
    web, api, job = manifest.services
    assert web.build is not None and web.build.path == "./web"
    assert web.environment == ("A=1",)
    assert api.image == "first"
    assert job.build is not None and job.build.path == "./base"


def test_a_key_in_place_wins_also_over_a_merge_that_comes_later() -> None:
    (service,) = parse("x: &x {image: merged}\nservices:\n  web:\n    image: mine\n    <<: *x\n").services
    assert service.image == "mine"


def test_crlf_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "convox.yml"
    path.write_bytes(b"\xef\xbb\xbfservices:\r\n  web:\r\n    build: ./web\r\n  Bad: {}\r\n")
    with pytest.raises(ManifestError, match=r"^validation errors:\nconvox\.yml:4: service name Bad invalid"):
        load_manifest(path, {})


def test_the_text_is_kept_as_written() -> None:
    text = "services: {web: {image: '${SECRET}'}}\n"
    manifest = parse_manifest(text, {"SECRET": "s3cr3t"})
    assert manifest.text == text
    assert "s3cr3t" not in repr(manifest).replace("image='s3cr3t'", "")
    assert manifest.variables == {"SECRET"}


def test_declared_variables() -> None:
    manifest = parse("environment: [A=1]\nservices: {web: {environment: [B=2], image: 'x:${C}'}}")
    assert [manifest.declares(name) for name in "ABCD"] == [True, True, True, False]


# values put in


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a ${A} b", "a 1 b"),
        ("${A}${B}", "1"),
        ("${A", "${A"),
        ("$A {A}", "$A {A}"),
        ("${}", ""),
        ("${A:-x}", ""),
        ("$${A}", "$1"),
        ("${x${A}", ""),
        ("${A}}", "1}"),
        ("${ A }", ""),
        ("${TWICE}", "${A}"),
        ("${A\nB}", ""),
    ],
)
def test_interpolation(text: str, filled: str) -> None:
    assert interpolate(text, {"A": "1", "TWICE": "${A}"})[0] == filled


def test_lines_stay_right_when_a_value_has_several() -> None:
    manifest = parse("services:\n  a: ${A}\n  b: {}\n", A="{environment:\n [X=1,\n Y=2]}")
    assert [service.line for service in manifest.services] == [2, 3]
    assert manifest.services[0].environment == ("X=1", "Y=2")


def test_lines_stay_right_when_a_name_has_several() -> None:
    assert [service.line for service in parse("# ${A\nB}\nservices:\n  b: {}\n").services] == [4]


def test_values_may_not_grow_without_end() -> None:
    with pytest.raises(ManifestError, match="too large once values are put in"):
        interpolate("${A}" * 10_000, {"A": "x" * 1000})


def test_half_a_reference_repeated_is_read_in_one_pass() -> None:
    started = time.process_time()
    assert interpolate("${" * 300_000, {})[0] == "${" * 300_000
    assert time.process_time() - started < 2


def test_a_value_that_is_no_text_is_refused() -> None:
    assert "is not UTF-8" in str(error("services: {web: {build: '${A}'}}", A="\udcff"))


# environments


def test_environments_are_joined_the_files_own_first() -> None:
    manifest = parse("environment: [A=1]\nservices:\n  web: {environment: [B=2, [C=3, D=4], 5, true]}\n  api: {}\n")
    assert manifest.environment == ("A=1",)
    assert [service.environment for service in manifest.services] == [("A=1", "B=2", "C=3", "D=4"), ("A=1",)]


def test_required_names_are_those_without_a_value() -> None:
    assert missing_environment(["B", "A", "C=", "D=1", "*", "E", "A"], {"E": ""}) == ["A", "B"]


def test_a_required_name_without_a_value_is_an_error() -> None:
    exc = error(
        "environment: [B]\nservices:\n  web:\n    environment:\n      - A\n      - C=1\n  api: {environment: [Z]}\n"
    )
    assert str(exc) == "required env: A, B"
    assert exc.why == (
        "service web declares without a value: A at convox.yml:5, B at convox.yml:1; other services also require Z"
    )
    assert exc.hint == (
        "give a value with convox env set A=VALUE, or a default in convox.yml: A=default; "
        "convox build also takes --build-args A=VALUE"
    )


def test_a_given_value_satisfies_even_when_empty() -> None:
    parse("services: {web: {environment: [A, '*']}}", A="")


def test_a_missing_value_comes_before_the_other_checks() -> None:
    assert str(error("services: {Web: {environment: [A]}}")) == "required env: A"


# mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n  web:\n    build: [a]\n", "convox.yml:3: unknown type for service build: []interface {}"),
        ("services:\n  web:\n    build: 3\n", "convox.yml:3: unknown type for service build: int"),
        ("services:\n  web:\n    build: 1.5\n", "convox.yml:3: unknown type for service build: float64"),
        ("services:\n  web:\n    build: yes\n", "convox.yml:3: unknown type for service build: bool"),
        ("environment: A=1\n", "convox.yml:1: unknown type for service environment: string"),
        (
            "services: {web: {environment: {A: 1}}}\n",
            "convox.yml:1: unknown type for service environment: map[interface {}]interface {}",
        ),
        ("services:\n  y: {}\n", "convox.yml:2: unknown key type: bool"),
        ("services: [web]\n", "convox.yml:1: services must be a mapping of names, not a list"),
        ("services:\n  web: ./web\n", "convox.yml:2: service web must be a mapping, not a string"),
        ("services:\n  web:\n    image: [a]\n", "convox.yml:3: service web: image must be a string, not a list"),
        (
            "services:\n  web: {build: {path: {}}}\n",
            "convox.yml:2: service web: build.path must be a string, not a mapping",
        ),
        (
            "services:\n  web: {build: {args: {A: 1}}}\n",
            "convox.yml:2: service web: build.args must be a list, not a mapping",
        ),
        (
            "services:\n  web: {build: {args: [{A: 1}]}}\n",
            "convox.yml:2: service web: build.args has an item that is a mapping",
        ),
        ("foo\n", "convox.yml:1: a manifest must be a mapping with a key services, not a string"),
        ("- a\n", "convox.yml:1: a manifest must be a mapping with a key services, not a list"),
        ("", "convox.yml has no services"),
        ("services:\n", "convox.yml has no services"),
        ("services: {}\n", "convox.yml has no services"),
        ("servicess:\n  web:\n    build: .\n", "convox.yml has no services"),
        ("services:\n  web: {}\n  web: {}\n", 'convox.yml:3: key "web" is given twice'),
        ("services: {web: {build: ., build: x}}\n", 'convox.yml:1: key "build" is given twice'),
        ("? [a]\n: 1\n", "convox.yml:1: a key must be a plain value, not a list"),
        ("services: {web: {<<: 1}}\n", "convox.yml:1: map merge requires map or sequence of maps as the value"),
        ("a: *nowhere\n", "convox.yml:1: not valid YAML"),
        ("a: &a [*a]\n", "convox.yml:1: not valid YAML"),
        ("a: 1\nb: c: d\n", "convox.yml:2: not valid YAML"),
        ("a: [1\n", "convox.yml:2: not valid YAML"),
        ("a: 1\nb: \x07\n", "convox.yml:2: not valid YAML"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    assert str(error(text)) == expected


def test_hints() -> None:
    assert error("servicess: {}\n").hint == 'line 1 has "servicess"; the key is "services"'
    assert error("services:\n\tweb: {}\n").hint == "indent with spaces, YAML allows no tabs there"
    assert error("a: 1\nb: 1\na: 2\n").why == "first on line 1"


def test_aliases_that_lead_nowhere() -> None:
    assert error("a: *nowhere\n").why == "an alias (*name) has no anchor (&name) before it"
    assert error("a: &a [*a]\n").why == "an anchor's value contains itself"
    assert error("b: &a 1\na: &a {x: [*a]}\n").why == "an anchor's value contains itself"


def test_yaml_errors_name_the_column() -> None:
    assert error("a: b: c\n").why.endswith("(column 5)")


def test_a_forbidden_character_is_named() -> None:
    assert error("a: \x07\n").why == "character U+0007 is not allowed"


# Convox's own test of its checks, with our lines in front.
CHECKS = """
    balancers:
      alpha:
        whitelist: 1.1.1.1
      bravo:
        ports:
          3000: 3001
        service: nosuch
    resources:
      1resource:
        type: postgres
      blank: {}
    services:
      deployment-low:
        deployment:
          minimum: -1
          maximum: 99
      deployment-high:
        deployment:
          minimum: 101
          maximum: 201
      routers:
        internal: true
        internalRouter: true
      serviceF:
        build: .
        resources:
          - foo
          - blank:URL
    timers:
      timer_1:
        service: someservice
        schedule: "0 * * * ?"
      fine:
        service: routers
        schedule: "0 * ? * * ?"
      odd:
        service: routers
        schedule: "0 * * * ?/2"
    """


def test_all_checks_in_convoxs_words_and_order() -> None:
    assert str(error(CHECKS)).splitlines() == [
        "validation errors:",
        "convox.yml:2: balancer alpha has no ports",
        "convox.yml:2: balancer alpha has blank service",
        "convox.yml:3: balancer alpha whitelist 1.1.1.1 is not a valid cidr range",
        "convox.yml:4: balancer bravo refers to unknown service nosuch",
        "convox.yml:9: resource name 1resource invalid, must contain only lowercase alphanumeric and dashes",
        'convox.yml:11: resource "blank" has blank type',
        "convox.yml:15: service deployment-low deployment minimum can not be less than 0",
        "convox.yml:16: service deployment-low deployment maximum can not be less than 100",
        "convox.yml:19: service deployment-high deployment minimum can not be greater than 100",
        "convox.yml:20: service deployment-high deployment maximum can not be greater than 200",
        "convox.yml:21: service routers can not have both internal and internalRouter set as true",
        "convox.yml:24: service name serviceF invalid, must contain only lowercase alphanumeric and dashes",
        "convox.yml:27: service serviceF references a resource that does not exist: foo",
        "convox.yml:30: timer name timer_1 invalid, must contain only lowercase alphanumeric and dashes",
        "convox.yml:30: timer timer_1 references a service that does not exist: someservice",
        "convox.yml:36: timer odd invalid, schedule cannot contain ?",
    ]


@pytest.mark.parametrize("name", ["web", "a", "a-", "a1-b2"])
def test_good_names(name: str) -> None:
    assert parse(f"services:\n  {name}: {{}}\n").services[0].name == name


@pytest.mark.parametrize("name", ["Web", "1web", "-web", "we_b", "web.x", "wéb", "a b", '"web\\n"', '".."', '"a/b"'])
def test_bad_names(name: str) -> None:
    assert "invalid, must contain only lowercase alphanumeric and dashes" in str(error(f"services:\n  {name}: {{}}\n"))


@pytest.mark.parametrize("cidr", ["10.0.0.0/8", "1.1.1.1/32", "10.1.2.3/8", "fd00::/8"])
def test_good_ranges(cidr: str) -> None:
    parse(f"services: {{web: {{}}}}\nbalancers: {{a: {{ports: {{1: 2}}, service: web, whitelist: ['{cidr}']}}}}\n")


@pytest.mark.parametrize("cidr", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "x/8", "10.0.0.0/-1"])
def test_bad_ranges(cidr: str) -> None:
    exc = error(
        f"services: {{web: {{}}}}\nbalancers: {{a: {{ports: {{1: 2}}, service: web, whitelist: ['{cidr}']}}}}\n"
    )
    assert f"whitelist {cidr} is not a valid cidr range" in str(exc)


# secrets


@pytest.mark.parametrize(
    "value",
    [
        "*hunter2",
        "!<hunter2",
        "'hunter2",
        "[hunter2",
        "{hunter2: *hunter2}",
        "a: b: hunter2",
        "@hunter2",
        "%hunter2",
        "\thunter2",
    ],
)
def test_no_value_gets_into_a_yaml_error(value: str) -> None:
    exc = error("services:\n  web: ${SECRET}\n", SECRET=value)
    assert "hunter2" not in everything(exc)
    assert "not valid YAML" in str(exc) or "must be a mapping" in str(exc)


def test_the_pure_parser_gives_no_value_away_either(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader")
    exc = error("services:\n  web: ${SECRET}\n", SECRET="!hunter2!x")
    assert str(exc) == "convox.yml:2: not valid YAML"
    assert "found undefined tag handle '…'" in exc.why
    assert "hunter2" not in everything(exc)
    assert "found undefined tag handle '!mine!'" in error("services: !mine!x\n").why
    assert parse("services: {web: {}}").services[0].name == "web"


# hostile files


def test_aliases_that_expand_without_end() -> None:
    rows = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "excessive aliasing" in str(error("\n".join(rows)))


def test_merges_that_take_without_end() -> None:
    base = "b: &b {" + ", ".join(f"k{index}: 1" for index in range(3000)) + "}\n"
    started = time.process_time()
    assert "excessive aliasing" in str(error(base + "".join(f"m{index}: {{<<: [*b, *b]}}\n" for index in range(3000))))
    assert time.process_time() - started < 3


@pytest.mark.parametrize("unit", ["[", "{a: ", "[{a: "])
def test_deep_nesting(unit: str) -> None:
    assert str(error(unit * 5000)).endswith("nested more than 100 levels deep")


def test_no_tag_builds_anything() -> None:
    parse("x: !!python/object/apply:os.abort []\nservices: {web: {}}\n")


# files


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "convox.prod.yml"
    path.write_text("services: {web: {}}\n")
    manifest = load_manifest(path, {})
    assert (manifest.path, manifest.name, manifest.text) == (path, "convox.prod.yml", "services: {web: {}}\n")
    path.write_text("services: {Web: {}}\n")
    with pytest.raises(ManifestError, match=r"deploy/convox\.yml:1: service name Web"):
        load_manifest(path, {}, name="deploy/convox.yml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "convox.yml", {})
    assert str(caught.value) == "no such file: convox.yml"
    assert str(tmp_path) in caught.value.why
    assert "write a convox.yml" in caught.value.hint
    (tmp_path / "convox.staging.yml").touch()
    (tmp_path / "convox.yaml").touch()
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path / "convox.yml", {})
    assert caught.value.hint == "name it with -m; there is convox.staging.yml, convox.yaml"


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        load_manifest(tmp_path / "nowhere" / "convox.yml", {})


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        load_manifest(tmp_path, {}, name="convox.yml")
    assert (str(caught.value), caught.value.why) == ("cannot read convox.yml", "it is a folder")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "convox.yml")
    with pytest.raises(ManifestError, match="cannot read"):
        load_manifest(tmp_path / "convox.yml", {})


def test_an_unreadable_file(shared: Path) -> None:
    path = shared / "convox.yml"
    path.write_text("services: {web: {}}\n")
    path.chmod(0)
    with unprivileged(), pytest.raises(ManifestError) as caught:
        load_manifest(path, {})
    assert (str(caught.value), caught.value.why) == ("cannot read convox.yml", "Permission denied")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "convox.yml"
    path.write_bytes(b"#" * MAX_SIZE_BYTES)
    with pytest.raises(ManifestError, match="has no services"):
        load_manifest(path, {})
    path.write_bytes(b"#" * (MAX_SIZE_BYTES + 1))
    with pytest.raises(ManifestError, match=r"convox\.yml is too large"):
        load_manifest(path, {})
    with pytest.raises(ManifestError, match=r"convox\.yml is too large"):
        parse_manifest("#" * (MAX_SIZE_BYTES + 1), {})


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "convox.yml"
    path.write_bytes(b"services:\n  web: {}\n# \xe9t\xe9\n")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path, {})
    assert (str(caught.value), caught.value.why) == ("convox.yml:3: not UTF-8", "byte 22 is 0xe9")
    path.write_bytes("services: {web: {}}\n".encode("utf-16"))
    with pytest.raises(ManifestError) as caught:
        load_manifest(path, {})
    assert caught.value.why == "the file is UTF-16"


def test_names_of_services_alone() -> None:
    """For manifests of builds made elsewhere: values may be missing, and nothing else is checked."""
    text = "environment: [NEEDED]\nservices:\n  web:\n    build: 3.5\n  ${NAME}:\n  Upper Case:\n"
    assert service_names(text, {"NAME": "api"}) == ("web", "api", "Upper Case")
    assert service_names("environment: []", {}) == ()
    assert service_names("", {}) == ()
    for wrong in ("services: [web]", "- web", "services: {", "#" * (MAX_SIZE_BYTES + 1)):
        with pytest.raises(ManifestError):
            service_names(wrong, {})


@pytest.mark.parametrize("number", ["!!int abc", "!!int ''", "9" * 5000])
def test_a_number_that_is_none(number: str) -> None:
    text = f"services:\n  web:\n    image: app\n    deployment:\n      minimum: {number}\n"
    assert parse_manifest(text, {}).services[0].image == "app"


def test_a_value_that_is_no_text() -> None:
    for read in (parse_manifest, service_names):
        with pytest.raises(ManifestError, match="not UTF-8"):
            read("services:\n  web:\n    build: ${NAME}\n", {"NAME": "\udc80"})
