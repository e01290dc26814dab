"""Which command leads to the daemon; the words are those of the reference client."""

from __future__ import annotations

import pytest

from buildkit_client.transport.address import parse_address
from buildkit_client.transport.commands import command_for

DIAL = "buildctl dial-stdio"


@pytest.mark.parametrize(
    ("address", "command"),
    [
        ("docker-container://b", f"docker exec -i b {DIAL}"),
        ("docker-container://b?context=c", f"docker --context=c exec -i b {DIAL}"),
        ("podman-container://b", f"podman exec -i b {DIAL}"),
        ("nerdctl-container://b", f"nerdctl exec -i b {DIAL}"),
        ("nerdctl-container://b?namespace=n", f"nerdctl exec --namespace n -i b {DIAL}"),
        ("kube-pod://p", f"kubectl --context= --namespace= exec --container= -i p -- {DIAL}"),
        (
            "kube-pod://p?context=u@c&namespace=n&container=b",
            f"kubectl --context=u@c --namespace=n exec --container=b -i p -- {DIAL}",
        ),
        ("ssh://h", f"ssh -- h {DIAL}"),
        ("ssh://u@h:22/run/b.sock", "ssh -l u -p 22 -- h buildctl --addr unix:///run/b.sock dial-stdio"),
        ("unix:///run/b.sock", ""),
        ("tcp://h:1", ""),
        ("docker://", ""),
    ],
)
def test_the_command_of_an_address(address, command):
    assert list(command_for(parse_address(address))) == command.split()


def test_a_context_stays_one_word():
    words = command_for(parse_address("docker-container://b?context=a%20b%20--privileged"))
    assert words[1] == "--context=a b --privileged"
