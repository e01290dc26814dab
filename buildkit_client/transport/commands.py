"""The commands whose standard input and output lead to a daemon; no IO.

Each runs ``buildctl dial-stdio`` next to the daemon, which must be there: in the container, pod or remote machine.
Arguments are a list and never see a shell on this machine; names were checked when the address was read.

Reference: client/connhelper/dockercontainer, podmancontainer, nerdctlcontainer, kubepod, ssh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildkit_client.transport.address import Address

DIAL = ("buildctl", "dial-stdio")


def command_for(address: Address) -> tuple[str, ...]:
    """Return the command that leads to the daemon, program first, or nothing when no command does."""
    match address.scheme:
        case "docker-container":
            context = (f"--context={address.context}",) if address.context else ()
            return ("docker", *context, "exec", "-i", address.name, *DIAL)
        case "podman-container":
            return ("podman", "exec", "-i", address.name, *DIAL)
        case "nerdctl-container":
            namespace = ("--namespace", address.namespace) if address.namespace else ()
            return ("nerdctl", "exec", *namespace, "-i", address.name, *DIAL)
        case "kube-pod":
            return (
                "kubectl", f"--context={address.context}", f"--namespace={address.namespace}", "exec",
                f"--container={address.container}", "-i", address.name, "--", *DIAL,
            )  # fmt: skip
        case "ssh":
            user = ("-l", address.user) if address.user else ()
            port = ("-p", str(address.port)) if address.port else ()
            socket = ("--addr", f"unix://{address.path}") if address.path else ()
            return ("ssh", *user, *port, "--", address.host, DIAL[0], *socket, DIAL[1])
    return ()
