"""Logins as a Kubernetes Secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from convox.errors import RackError, UsageError
from convox.pull_secret import DOCKER_HUB_KEYS, PullLogins, pull_logins, secret_objects, to_yaml
from convox.rack import Rack
from convox.registries import Registry, add_registry

HUB = {"docker_hub_username": "me", "docker_hub_password": "canary"}


def auths_of(objects: list[dict[str, Any]]) -> dict[str, str]:
    config = json.loads(base64.b64decode(objects[0]["data"][".dockerconfigjson"]))
    return {key: base64.b64decode(entry["auth"]).decode() for key, entry in config["auths"].items()}


def test_the_hubs_login_is_there_under_all_its_names_and_no_other(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path, params={**HUB, "registry": "r.example.com"})
    add_registry(rack, Registry(server="quay.io", username="q", password="p"))
    objects = secret_objects(pull_logins(rack))
    assert auths_of(objects) == dict.fromkeys(DOCKER_HUB_KEYS, "me:canary")
    assert objects[0]["type"] == "kubernetes.io/dockerconfigjson"
    assert objects[0]["metadata"] == {"name": "docker-hub-authentication"}


def test_yaml_is_what_kubernetes_reads(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path, params=HUB)
    objects = secret_objects(pull_logins(rack), name="123", namespace="null", service_account="default")
    documents = list(yaml.safe_load_all(to_yaml(objects)))
    assert documents == objects
    assert documents[1] == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "null"},
        "imagePullSecrets": [{"name": "123"}],
    }


def test_all_logins(tmp_path: Path) -> None:
    params = {**HUB, "registry": "registry.digitalocean.com/acme", "registry_password": "dop"}
    rack = Rack(name="test", path=tmp_path, params=params)
    ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    for server, username, password in (
        ("https://Quay.io", "q", "p"),
        ("docker.io", "other", "p"),
        ("gcr.io", "_json_key", "{}"),
        (ecr, "AKIAIOSFODNN7EXAMPLE", "canary"),
    ):
        add_registry(rack, Registry(server=server, username=username, password=password))
    logins = pull_logins(rack, has_all=True)
    assert auths_of(secret_objects(logins)) == {
        **dict.fromkeys(DOCKER_HUB_KEYS, "me:canary"),
        "registry.digitalocean.com": "dop:dop",
        "quay.io": "q:p",
        "gcr.io": "_json_key:{}",
    }
    assert list(logins.left_out) == [ecr]
    assert "canary" not in repr(logins)


def test_no_login(tmp_path: Path) -> None:
    rack = Rack(name="test", path=tmp_path)
    with pytest.raises(RackError, match="rack test has no login for Docker Hub"):
        pull_logins(rack)
    ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    add_registry(rack, Registry(server=ecr, username="AKIAIOSFODNN7EXAMPLE", password="x"))
    with pytest.raises(RackError, match="rack test has no login") as caught:
        pull_logins(rack, has_all=True)
    assert "twelve hours" in caught.value.why


@pytest.mark.parametrize(
    "names",
    [
        {"name": ""},
        {"name": "Upper"},
        {"name": "a\nb: c"},
        {"name": "-a"},
        {"name": "a" * 254},
        {"namespace": "a.b"},
        {"namespace": "x" * 64},
        {"service_account": "a b"},
    ],
)
def test_names_that_kubernetes_does_not_take(names: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="not the name of a"):
        secret_objects(PullLogins(auths={"docker.io": "x"}), **names)
