"""A Dockerfile build's options as the wire has them."""

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import DockerfileFrontend, RawFrontend


def test_nothing_set_sends_nothing():
    assert DockerfileFrontend().to_attrs() == {}
    assert DockerfileFrontend().name == "dockerfile.v0"


def test_every_option_has_its_key():
    frontend = DockerfileFrontend(
        filename="docker/App.dockerfile",
        target="prod",
        build_args={"A": "1", "EMPTY": "", "SPACE": "a b=c,d"},
        labels={"com.example.x": "y"},
        platforms=["linux/amd64", "linux/arm64"],
        no_cache=True,
        pull="pull",
        add_hosts={"db": "10.0.0.1", "six": "::1"},
        network="host",
        shm_size_bytes=1 << 20,
        ulimits={"nofile": "1024:2048", "nproc": "9"},
        hostname="box",
        cgroup_parent="builds",
    )
    assert frontend.to_attrs() == {
        "filename": "docker/App.dockerfile",
        "target": "prod",
        "build-arg:A": "1",
        "build-arg:EMPTY": "",
        "build-arg:SPACE": "a b=c,d",
        "label:com.example.x": "y",
        "platform": "linux/amd64,linux/arm64",
        "no-cache": "",
        "image-resolve-mode": "pull",
        "add-hosts": "db=10.0.0.1,six=::1",
        "force-network-mode": "host",
        "shm-size": "1048576",
        "ulimit": "nofile=1024:2048,nproc=9",
        "hostname": "box",
        "cgroup-parent": "builds",
    }


@pytest.mark.parametrize(
    ("value", "sent"),
    [(False, None), ((), None), (True, ""), (["build"], "build"), (("a", "b"), "a,b"), ("build", "build"), ("", None)],
)
def test_no_cache_for_everything_or_for_stages(value, sent):
    assert DockerfileFrontend(no_cache=value).to_attrs().get("no-cache") == sent


def test_one_platform_may_be_given_alone():
    """A text is a sequence of letters, so this would ask for the platforms "l", "i", "n" and so on."""
    assert DockerfileFrontend(platforms="linux/arm64").to_attrs() == {"platform": "linux/arm64"}


def test_further_attributes_win():
    frontend = DockerfileFrontend(target="a", attrs={"target": "b", "new-in-2030": "x"})
    assert frontend.to_attrs() == {"target": "b", "new-in-2030": "x"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"build_args": {"": "x"}}, "build argument"),
        ({"labels": {"": "x"}}, "label"),
        ({"platforms": ["linux/amd64", ""]}, "platform"),
    ],
)
def test_empty_names_are_refused(options, what):
    with pytest.raises(OptionError, match=what):
        DockerfileFrontend(**options).to_attrs()


def test_values_that_may_be_secret_are_not_shown():
    assert "hunter2" not in repr(DockerfileFrontend(build_args={"TOKEN": "hunter2"}, attrs={"build-arg:T": "hunter2"}))
    assert "hunter2" not in repr(RawFrontend("gateway.v0", {"build-arg:T": "hunter2"}))


def test_a_raw_frontend_passes_attributes_on_as_a_copy():
    attrs = {"source": "example.com/frontend"}
    frontend = RawFrontend("gateway.v0", attrs)
    sent = frontend.to_attrs()
    sent["more"] = "x"
    assert frontend.to_attrs() == attrs == {"source": "example.com/frontend"}
    assert frontend.name == "gateway.v0"
