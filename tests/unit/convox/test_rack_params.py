"""Rack parameters: the table, what is accepted, what is shown."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from convox.errors import RackError, UsageError
from convox.provider_params import provider_defaults
from convox.rack_params import BY_NAME, GROUPS, MASK, PARAMS, PROVIDERS, mask, resolve_group, view_params
from convox.rack_values import CheckedParams, check_params, parse_params, read_secret_values

SECRETS = ["docker_hub_password", "registry_password", "store"]


def check(_current: dict[str, str] | None = None, *, is_forced: bool = False, **params: str) -> CheckedParams:
    return check_params(params, _current or {}, cwd=Path("/srv/dir"), is_forced=is_forced)


def error(_current: dict[str, str] | None = None, *, is_forced: bool = False, **params: str) -> RackError:
    with pytest.raises(RackError) as caught:
        check(_current, is_forced=is_forced, **params)
    return caught.value


def everything(exc: RackError | UsageError) -> str:
    return f"{exc} {exc!r} {exc.why} {exc.hint}"


# the table


def test_the_table_is_consistent() -> None:
    assert len(BY_NAME) == len(PARAMS)
    for param in PARAMS:
        assert param.doc
        assert set(param.groups) <= set(GROUPS)
        assert param.groups, param.name
        assert set(param.providers) <= set(PROVIDERS)
        assert (param.kind == "choice") == bool(param.choices)
        assert not param.choices or param.default in param.choices
        if param.default:
            provider = {"provider": param.providers[0]} if param.providers else {}
            assert check(provider, **{param.name: param.default}).values == {param.name: param.default}
    for group in GROUPS:
        assert any(group in param.groups for param in PARAMS), group
    assert list(GROUPS) == sorted(GROUPS)
    assert [param.name for param in PARAMS if param.is_masked] == SECRETS


def test_convoxs_parameters_say_that_they_do_nothing() -> None:
    for param in PARAMS:
        assert ("no effect here" in param.doc) is not param.has_effect


# reading


def test_reading() -> None:
    assert parse_params(["a=1", "b=x=y", "c=", "a=2", "d= x "]) == {"a": "2", "b": "x=y", "c": "", "d": " x "}
    assert parse_params([]) == {}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("x", 'invalid parameter "x", expected Key=Value format (use -r to specify rack)'),
        ("", 'invalid parameter "", expected Key=Value format (use -r to specify rack)'),
        ('a"b', 'invalid parameter "a\\"b", expected Key=Value format (use -r to specify rack)'),
        ("=v", 'invalid parameter "=v", key must not be empty'),
    ],
)
def test_arguments_that_are_no_parameters(item: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_params(["good=1", item])
    assert str(caught.value) == text


def fetch(cwd: Path, stdin: bytes = b"", **values: str) -> dict[str, str]:
    return read_secret_values(values, cwd=cwd, stdin=io.BytesIO(stdin))


def test_secrets_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2\n")
    assert fetch(
        tmp_path,
        b"swordfish\r\n",
        docker_hub_password="@token",
        registry_password="-",
        docker_hub_username="@me",
        builder="-",
    ) == {
        "docker_hub_password": "hunter2",
        "registry_password": "swordfish",
        "docker_hub_username": "@me",
        "builder": "-",
    }
    assert fetch(tmp_path, docker_hub_password=f"@{tmp_path / 'token'}") == {"docker_hub_password": "hunter2"}
    assert fetch(tmp_path, docker_hub_password="plain") == {"docker_hub_password": "plain"}
    assert fetch(tmp_path, b" a b \n\n", docker_hub_password="-") == {"docker_hub_password": " a b \n"}


def test_a_secret_from_a_pipe(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"hunter2\n")
    os.close(write)
    try:
        assert fetch(tmp_path, docker_hub_password=f"@/dev/fd/{read}") == {"docker_hub_password": "hunter2"}
    finally:
        os.close(read)


@pytest.mark.parametrize("value", ["@nowhere-hunter2", "@", "@a\0hunter2", "@hunter2/x"])
def test_a_secrets_file_that_cannot_be_read(tmp_path: Path, value: str) -> None:
    with pytest.raises(RackError) as caught:
        fetch(tmp_path, docker_hub_password=value)
    assert str(caught.value) == "cannot read the file for param 'docker_hub_password'"
    assert caught.value.why and "docker_hub_password=@FILE" in caught.value.hint
    # A password that begins with @ would be taken for a file's name.
    assert "hunter2" not in everything(caught.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8"), (b"x" * 70_000, "has more than 65536 bytes")],
)
def test_secrets_that_are_none(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(RackError, match=f"param 'docker_hub_password': standard input {text}"):
        fetch(tmp_path, data, docker_hub_password="-")
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(RackError, match=f"param 'docker_hub_password': the file named after @ {text}"):
        fetch(tmp_path, docker_hub_password="@f")


def test_standard_input_is_read_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="docker_hub_password and registry_password"):
        fetch(tmp_path, b"x", docker_hub_password="-", registry_password="-")


# checking


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("builder", "unix:///run/buildkit/buildkitd.sock", "unix:///run/buildkit/buildkitd.sock"),
        ("builder", "tcp://b.example.com:1234, tcp://[::1]:1", "tcp://b.example.com:1234,tcp://[::1]:1"),
        ("builder", "docker-container://buildkitd?context=x", "docker-container://buildkitd?context=x"),
        ("builder", "kube-pod://p?namespace=n", "kube-pod://p?namespace=n"),
        ("builder", "ssh://me@host:22/run/b.sock", "ssh://me@host:22/run/b.sock"),
        ("registry", "localhost:5000", "localhost:5000"),
        ("registry", "r.example.com/team/", "r.example.com/team"),
        ("registry_insecure", "T", "true"),
        ("registry_insecure", "0", "false"),
        ("cache", "none", "none"),
        ("compression", "zstd", "zstd"),
        ("platform", "linux/amd64, linux/arm/v7", "linux/amd64,linux/arm/v7"),
        ("provider", "do", "do"),
        ("store", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("tls_server_name", "b.example.com", "b.example.com"),
        ("docker_hub_username", "me", "me"),
    ],
)
def test_good_values(name: str, value: str, stored: str) -> None:
    checked = check(**{name: value})
    assert checked.values == {name: stored}
    assert checked.warnings == ()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("builder", "b:1234", "param 'builder' must be an address of buildkitd (got \"b:1234\")"),
        ("builder", "unix://relative", "param 'builder' must be an address of buildkitd (got \"unix://relative\")"),
        ("builder", "tcp://b", "param 'builder' must be an address of buildkitd (got \"tcp://b\")"),
        ("builder", "unix:///a,", "param 'builder' must be an address of buildkitd (got \"\")"),
        ("builder", "ssh://me:hunter2@host", "param 'builder' must be an address of buildkitd"),
        ("builder", "tcp://me:hunter2@host:1", "param 'builder' must be an address of buildkitd"),
        ("registry", "https://r", "param 'registry' must not include a scheme (drop http:// or https://)"),
        ("registry", "me:hunter2@r", "param 'registry' must not contain an account"),
        ("registry", "r/app:tag", "param 'registry' must be a registry (got \"r/app:tag\")"),
        ("registry", "r/App", "param 'registry' must be a registry (got \"r/App\")"),
        ("registry", "r//x", "param 'registry' must be a registry (got \"r//x\")"),
        ("registry", "r x", "param 'registry' must be a registry (got \"r x\")"),
        ("registry_insecure", "yes", "param 'registry_insecure' must be 'true' or 'false' (got \"yes\")"),
        ("cache", "s3", "param 'cache' must be one of registry, inline, none (got \"s3\")"),
        ("provider", "ibm", "param 'provider' must be one of aws, azure, do, gcp, local, metal (got \"ibm\")"),
        ("platform", "amd64", "param 'platform' must list platforms such as linux/amd64,linux/arm64 (got \"amd64\")"),
        (
            "store",
            "mysql://u:hunter2@h",
            "param 'store' must be a URL such as sqlite:///data/convox.db or postgresql://host/db",
        ),
        ("tls_server_name", "a b", "param 'tls_server_name' must be a host name (got \"a b\")"),
        ("docker_hub_password", "hunter2\nx", "param 'docker_hub_password' must be one line"),
        ("tls_ca", "nowhere", "param 'tls_ca': there is no file /srv/dir/nowhere"),
        ("tls_ca", "a\0b", "param 'tls_ca': there is no file /srv/dir/a\0b"),
    ],
)
def test_bad_values(name: str, value: str, text: str) -> None:
    exc = error(**{name: value})
    assert str(exc) == text
    assert "hunter2" not in everything(exc)


def test_convoxs_parameters_are_kept_with_a_warning() -> None:
    checked = check({"provider": "aws"}, build_node_enabled="1", build_node_min_count="2", idle_timeout="3600")
    assert checked.values == {"build_node_enabled": "true", "build_node_min_count": "2", "idle_timeout": "3600"}
    assert checked.warnings == tuple(f"param '{name}' is kept and has no effect here" for name in checked.values)
    assert "must be a number" in str(error({"provider": "aws"}, idle_timeout="1h"))
    assert str(error({"provider": "aws"}, additional_build_groups_config="{")) == (
        "param 'additional_build_groups_config' must be JSON"
    )


def test_the_provider_decides_what_is_known() -> None:
    assert str(error(registry_disk="1Gi")).startswith("unknown parameter 'registry_disk' for local provider")
    assert check({"provider": "do"}, registry_disk="1Gi").values == {"registry_disk": "1Gi"}
    assert check(provider="do", registry_disk="1Gi").values == {"provider": "do", "registry_disk": "1Gi"}


def test_unknown_names() -> None:
    exc = error(bulder="unix:///x")
    assert str(exc) == "unknown parameter 'bulder' for local provider\n       Did you mean 'builder'?"
    assert "--force" in exc.hint
    assert str(error(docker_hub_passwd="hunter2")).endswith("Did you mean 'docker_hub_password'?")
    assert str(error(zzz="hunter2")) == "unknown parameter 'zzz' for local provider"
    assert "hunter2" not in everything(error(docker_hub_passwd="hunter2"))


def test_force() -> None:
    checked = check(is_forced=True, zzz="1", tls_ca="nowhere")
    assert checked.values == {"zzz": "1", "tls_ca": "/srv/dir/nowhere"}
    assert checked.warnings == ("param 'zzz' is unknown and has no effect",)
    assert "must be one of" in str(error(is_forced=True, cache="x"))
    assert check({"zzz": "1"}, is_forced=True, zzz="").values == {"zzz": ""}
    assert "requires an explicit value" in str(error(is_forced=True, zzz=""))


@pytest.mark.parametrize("name", ["region", "private", "token", "secret_key"])
@pytest.mark.parametrize("is_forced", [True, False])
def test_install_only(name: str, is_forced: bool) -> None:
    exc = error(is_forced=is_forced, **{name: "hunter2"})
    assert str(exc) == f"param '{name}' can only be set during rack installation"


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_values(value: str) -> None:
    assert str(error(cache=value)) == "param 'cache' requires an explicit value (omit to keep current)"
    assert check(docker_hub_password=value, registry=value).values == {"docker_hub_password": "", "registry": ""}


def test_the_docker_hub_cache_of_ecr_needs_an_account() -> None:
    assert str(error({"provider": "aws"}, ecr_docker_hub_cache="true")) == (
        "ecr_docker_hub_cache=true requires docker_hub_username and docker_hub_password.\n"
        "  Set all three: convox rack params set ecr_docker_hub_cache=true docker_hub_username=USER "
        "docker_hub_password=TOKEN\n"
        "  Or set docker_hub_username and docker_hub_password first"
    )
    have = {"provider": "aws", "docker_hub_username": "u"}
    assert check(have, ecr_docker_hub_cache="true", docker_hub_password="p").values["ecr_docker_hub_cache"] == "true"
    check({"provider": "aws"}, ecr_docker_hub_cache="false")


def test_a_client_certificate_goes_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "c").touch()
    (tmp_path / "k").touch()
    assert str(error(tls_cert=str(tmp_path / "c"))) == "param 'tls_cert' requires tls_key"
    assert str(error({"tls_cert": "/c", "tls_key": "/k"}, tls_cert="")) == "param 'tls_key' requires tls_cert"
    both = check_params({"tls_cert": "c", "tls_key": "k"}, {}, cwd=tmp_path)
    assert both.values == {"tls_cert": str(tmp_path / "c"), "tls_key": str(tmp_path / "k")}
    assert check({"tls_cert": "/c", "tls_key": "/k"}, tls_cert="", tls_key="").values == {"tls_cert": "", "tls_key": ""}


def test_checked_values_stay_out_of_the_repr() -> None:
    assert "hunter2" not in repr(check(docker_hub_password="hunter2"))


# showing


def test_the_rows_of_a_new_rack() -> None:
    assert view_params({}).rows == (
        ("builder", ""),
        ("cache", "registry"),
        ("compression", "gzip"),
        ("docker_hub_password", ""),
        ("docker_hub_username", ""),
        ("platform", ""),
        ("provider", "local"),
        ("registry", ""),
        ("registry_insecure", "false"),
        ("registry_password", ""),
        ("registry_username", ""),
        ("store", ""),
        ("tls_ca", ""),
        ("tls_cert", ""),
        ("tls_key", ""),
        ("tls_server_name", ""),
    )


def test_secrets_are_masked_until_they_are_asked_for() -> None:
    values = dict.fromkeys(SECRETS, "hunter2") | {
        "docker_hub_username": "me",
        "private_eks_pass": "hunter2",
        "my_token": "hunter2",
    }
    shown = dict(view_params(values).rows)
    assert [shown[name] for name in (*SECRETS, "private_eks_pass", "my_token")] == [MASK] * 5
    assert shown["docker_hub_username"] == "me"
    assert "hunter2" not in repr(view_params(values))
    assert dict(view_params(values, is_revealed=True).rows)["docker_hub_password"] == "hunter2"
    assert mask("docker_hub_password", "") == ""
    assert MASK == "**********"


def test_a_group() -> None:
    view = view_params({"zzz": "1", "docker_hub_password": "x"}, group="REG")
    assert dict(view.rows) == {
        "cache": "registry",
        "docker_hub_password": MASK,
        "docker_hub_username": "",
        "registry": "",
        "registry_insecure": "false",
        "registry_password": "",
        "registry_username": "",
    }
    assert view.notice == ""


def test_a_group_without_params_for_this_rack() -> None:
    view = view_params({}, group="karp")
    assert (view.rows, view.notice) == ((), "NOTICE: no params in group 'karpenter' for this rack")
    assert view_params({"karpenter_build_cpu_limit": "4"}, group="karp").rows == (("karpenter_build_cpu_limit", "4"),)


@pytest.mark.parametrize(
    ("text", "group"), [("build", "build"), (" Sto ", "storage"), ("i", "ingress"), ("sec", "security")]
)
def test_names_of_groups(text: str, group: str) -> None:
    assert resolve_group(text) == group


LIST = """\
  available groups:
  build        where and how images are built
  ingress      connections from outside
  karpenter    build nodes that come and go
  registry     where images are pushed and pulled, and with which accounts
  retention    how long releases are kept
  scaling      numbers of nodes
  security     credentials, certificates, access
  storage      disks and records"""


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("nope", "group 'nope' not found"),
        ("  ", "group name required"),
        ("re", "group 're' matches multiple groups: registry, retention (use 'reg' or 'ret')"),
        ("s", "group 's' matches multiple groups: scaling, security, storage (use 'sca', 'sec', or 'sto')"),
    ],
)
def test_names_of_no_group(text: str, first: str) -> None:
    with pytest.raises(RackError) as caught:
        resolve_group(text)
    assert str(caught.value) == f"{first}\n{LIST}"


# Convox's providers


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_default_of_a_provider_can_be_set(provider: str) -> None:
    defaults = provider_defaults(provider)
    assert "webhook_signing_key" in defaults
    for name, default in defaults.items():
        if default:
            checked = check_params({name: default}, {"provider": provider}, cwd=Path("/"), is_install=True)
            assert checked.values == {name: default}
    assert provider_defaults("nowhere") == {}


def test_what_convox_installs_is_accepted_at_installation_alone() -> None:
    params = {"provider": "do", "token": "t", "access_id": "i", "secret_key": "s", "region": "nyc3", "node_type": "n"}
    checked = check_params(params, {}, cwd=Path("/"), is_install=True)
    assert checked.values == params
    # The token opens DigitalOcean's registry.
    assert checked.warnings == tuple(
        f"param '{name}' is kept and has no effect here" for name in ("access_id", "secret_key", "region", "node_type")
    )
    assert str(error({"provider": "do"}, region="nyc1")) == "param 'region' can only be set during rack installation"
    assert str(error({"provider": "gcp"}, registry_disk="1Gi")).startswith("unknown parameter 'registry_disk' for gcp")


def test_a_misspelt_name_of_a_cluster_is_found_out() -> None:
    assert str(error({"provider": "aws"}, node_typ="x")).endswith("Did you mean 'node_type'?")


def test_what_builds_of_a_provider_have_is_shown() -> None:
    rows = dict(view_params({"provider": "do", "node_type": "n"}).rows)
    assert (rows["registry_disk"], rows["node_type"]) == ("50Gi", "n")
    assert "region" not in rows
    assert "registry_disk" not in dict(view_params({"provider": "gcp"}).rows)


def test_a_key_file_is_kept_in_one_line() -> None:
    key = '{\n  "type": "service_account",\n  "private_key": "-----BEGIN\\nX"\n}\n'
    stored = check(registry_password=key).values["registry_password"]
    assert stored == '{"type":"service_account","private_key":"-----BEGIN\\nX"}'
    assert "must be one line" in str(error(registry_password="two\nlines"))
    assert "must be one line" in str(error(docker_hub_password=key))
    assert check(registry_password="123").values["registry_password"] == "123"
