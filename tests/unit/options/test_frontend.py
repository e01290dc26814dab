"""A Dockerfile build's options as the wire has them."""

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import DockerfileFrontend, GatewayFrontend, Provenance, RawFrontend, Sbom


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
        multi_platform=True,
        attestations=[Provenance(), Sbom()],
        memory_bytes=1 << 30,
        memory_swap_bytes=-1,
        cpu_shares=512,
        cpu_period_us=100_000,
        cpu_quota_us=50_000,
        cpuset_cpus="0-3,7",
        cpuset_mems="0",
        vcs_source="https://example.com/app.git",
        vcs_revision="abc",
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
        "multi-platform": "true",
        "attest:provenance": "mode=min",
        "attest:sbom": "",
        "memory": "1073741824",
        "memswap": "-1",
        "cpushares": "512",
        "cpuperiod": "100000",
        "cpuquota": "50000",
        "cpusetcpus": "0-3,7",
        "cpusetmems": "0",
        "vcs:source": "https://example.com/app.git",
        "vcs:revision": "abc",
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
        ({"platforms": ["linux/amd64", "linux/arm64"], "multi_platform": False}, "several"),
        ({"memory_bytes": 0}, "memory"),
        ({"memory_swap_bytes": -2}, "memswap"),
        ({"cpu_quota_us": -1}, "cpuquota"),
        ({"attestations": [Sbom(), Sbom()]}, "sbom"),
        ({"attrs": {"taget": "x"}}, "taget"),
    ],
)
def test_what_cannot_work_is_refused(options, what):
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
    assert not frontend.needs().local_dirs


def test_a_raw_frontend_is_checked_unless_told_otherwise():
    for name, attrs in (("dockerfile", {}), ("dockerfile.v0", {"targt": "x"}), ("gateway.v0", {"sorce": "x"})):
        with pytest.raises(OptionError):
            RawFrontend(name, attrs).to_attrs()
        assert RawFrontend(name, attrs, unchecked=True).to_attrs() == attrs


def test_a_gateway_takes_an_image_and_the_same_options():
    frontend = GatewayFrontend(source="docker/dockerfile:1", target="prod", attrs={"taget": "its own"})
    assert frontend.name == "gateway.v0"
    assert frontend.to_attrs() == {"source": "docker/dockerfile:1", "target": "prod", "taget": "its own"}
    assert GatewayFrontend(source="a", cmdline="a b").to_attrs() == {"source": "a", "cmdline": "a b"}
    with pytest.raises(OptionError, match="image"):
        GatewayFrontend(source="")
