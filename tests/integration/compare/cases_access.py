"""Cases of what a build may use: secrets, SSH agents, entitlements, sources."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.integration.compare.case import Case, dockerfile
from tests.integration.compare.observe import Seen
from tests.support.tree import Tree

AREA = "access"

_LOCAL = " --output type=local,dest={tree}"
_TOKEN = "--mount=type=secret,id=token"


def _runs(mount: str, command: str) -> Tree:
    return dockerfile(
        f"FROM {{base}} AS run\nRUN {mount} : '{{case}}'; {command}\nFROM scratch\nCOPY --from=run /out /\n"
    )


def _made(content: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert content in seen.text("tree/out")

    return check


def _agent(mount: str = "--mount=type=ssh") -> Tree:
    """Ask the agent for its keys."""
    return dockerfile(
        "FROM {base} AS run\nCOPY --from={agentclient} /agentclient /\n"
        f"RUN {mount} : '{{case}}'; /agentclient 11 > /out\n"
        "FROM scratch\nCOPY --from=run /out /\n"
    )


def _policy(action: str, identifier: str, /, **updates: object) -> Tree:
    rule: dict[str, object] = {"action": action, "selector": {"identifier": identifier}}
    if updates:
        rule["updates"] = updates
    return {"policy.json": json.dumps({"rules": [rule]}).encode()}


_CAT = _runs(_TOKEN, "cat /run/secrets/token > /out")
_RUN = dockerfile("FROM {base} AS b\nRUN echo ran > /out\nFROM scratch\nCOPY --from=b /out /\n")
_POLICY = "--source-policy-file {arm}/policy.json"

_OURS = {"error": "what fails on our side is told in our words, without the way through the daemon"}
_EARLY = {"error": "found before the build starts"}

CASES = [
    Case(
        name="secret from a file",
        files=_CAT,
        more={"token": b"t0ken"},
        flags="--no-cache --secret id=token,src={arm}/token" + _LOCAL,
        check=_made("t0ken"),
    ),
    Case(
        name="secret, source in full",
        files=_CAT,
        more={"token": b"t0ken"},
        flags="--no-cache --secret type=file,id=token,source={arm}/token" + _LOCAL,
        check=_made("t0ken"),
    ),
    Case(
        name="secret, a file like the id",
        files=_CAT,
        more={"token": b"here"},
        flags="--no-cache --secret id=token" + _LOCAL,
        check=_made("here"),
    ),
    Case(
        name="secret from a variable",
        files=_CAT,
        environ={"SECRET": "e nv"},
        flags="--no-cache --secret id=token,env=SECRET" + _LOCAL,
        check=_made("e nv"),
    ),
    Case(
        name="secret, type env",
        files=_CAT,
        environ={"SECRET": "env"},
        flags="--no-cache --secret type=env,id=token,src=SECRET" + _LOCAL,
        check=_made("env"),
    ),
    Case(
        name="secret, a variable like the id",
        files=_CAT,
        environ={"token": "by name"},
        flags="--no-cache --secret id=token" + _LOCAL,
        check=_made("by name"),
    ),
    Case(
        name="secret in a variable of the step",
        files=_runs("--mount=type=secret,id=token,env=T", "echo $T > /out"),
        environ={"SECRET": "x"},
        flags="--no-cache --secret id=token,env=SECRET" + _LOCAL,
        check=_made("x"),
        needs="0.16",
    ),
    Case(
        name="secret that is optional",
        files=_runs(_TOKEN, "ls /run/secrets > /out 2>&1 || echo none > /out"),
        flags="--no-cache" + _LOCAL,
        check=_made("none"),
    ),
    Case(
        name="two secrets",
        files=_runs(_TOKEN + " --mount=type=secret,id=b", "cat /run/secrets/token /run/secrets/b > /out"),
        more={"b": b"b"},
        environ={"SECRET": "a"},
        flags="--no-cache --secret id=token,env=SECRET --secret id=b" + _LOCAL,
        check=_made("ab"),
    ),
    Case(
        name="secret with mode and owner",
        files=_runs("--mount=type=secret,id=token,mode=0400,uid=7,target=/t", "stat -c '%a %u' /t > /out"),
        environ={"SECRET": "a"},
        flags="--no-cache --secret id=token,env=SECRET" + _LOCAL,
        check=_made("400 7"),
    ),
    Case(
        name="secret that is required and not given",
        files=_runs(_TOKEN + ",required=true", "true"),
        flags="--no-cache" + _LOCAL,
        error="secret token: not found",
    ),
    Case(
        name="secret, variable not set",
        files=_runs(_TOKEN + ",required=true", "wc -c < /run/secrets/token > /out"),
        flags="--no-cache --secret id=token,env=NOT_SET" + _LOCAL,
        check=_made("0"),
    ),
    Case(
        name="secret, file not there",
        files=_CAT,
        flags="--no-cache --secret id=token,src={arm}/none" + _LOCAL,
        error="none: no such file or directory",
    ),
    Case(
        name="secret, a folder",
        files=_CAT,
        flags="--no-cache --secret id=token,src={arm}" + _LOCAL,
        error="is a directory",
        ignore=_OURS,
    ),
    Case(
        name="secret too large",
        files=_CAT,
        more={"token": b"x" * 600_000},
        flags="--no-cache --secret id=token,src={arm}/token" + _LOCAL,
        error="too big",
    ),
    Case(name="secret without id", flags="--secret src=x", error="secret missing ID"),
    Case(name="secret, unknown key", flags="--secret id=x,colour=red", error="unexpected key 'colour' in 'colour=red'"),
    Case(name="secret, unknown type", flags="--secret id=x,type=vault", error='unsupported secret type "vault"'),
    Case(name="secret, no pair", flags="--secret id", error="invalid field 'id' must be a key=value pair"),
    # ssh
    Case(
        name="agent by path",
        files=_agent(),
        flags="--no-cache --ssh default={agent}" + _LOCAL,
        check=_made("answer 12 number 1"),
    ),
    Case(
        name="agent of the environment",
        files=_agent(),
        environ={"SSH_AUTH_SOCK": "{agent}"},
        flags="--no-cache --ssh default" + _LOCAL,
        check=_made("answer 12 number 1"),
    ),
    Case(
        name="agent with an id",
        files=_agent("--mount=type=ssh,id=other"),
        flags="--no-cache --ssh other={agent}" + _LOCAL,
        check=_made("answer 12 number 1"),
    ),
    Case(
        name="key file",
        files=_agent(),
        flags="--no-cache --ssh default={key}" + _LOCAL,
        check=_made("answer 12 number 1"),
    ),
    Case(
        name="socket as it is",
        files=_agent(),
        flags="--no-cache --ssh default={agent},raw=true" + _LOCAL,
        check=_made("answer 12 number 1"),
    ),
    Case(
        name="agent that is required and not given",
        files=_agent("--mount=type=ssh,required=true"),
        flags="--no-cache" + _LOCAL,
        error="no SSH key",
    ),
    Case(
        name="no agent known",
        flags="--ssh default",
        error="invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set",
    ),
    Case(
        name="agent that is gone",
        files=_agent(),
        flags="--no-cache --ssh default={gone_agent}" + _LOCAL,
        error="error: ",
        ignore=_EARLY,
    ),
    Case(name="agent, not there", flags="--ssh default={arm}/none", error="no such file or directory"),
    Case(
        name="agent, a file that is no key",
        more={"note": b"no key"},
        flags="--ssh default={arm}/note",
        error="note",
        ignore=_OURS,
    ),
    Case(name="raw without a socket", flags="--ssh default,raw=true", error="raw"),
    Case(
        name="raw, two sockets",
        flags="--ssh default=a,b,raw=true",
        error="raw mode must supply exactly one socket path",
    ),
    # entitlements
    Case(
        name="host network",
        own_daemon=True,
        files=_RUN,
        flags="--allow network.host --opt force-network-mode=host --no-cache" + _LOCAL,
        check=_made("ran"),
    ),
    Case(
        name="insecure step",
        own_daemon=True,
        files=_runs("--security=insecure", "echo ran > /out"),
        flags="--allow security.insecure --no-cache" + _LOCAL,
        check=_made("ran"),
        needs="0.26",
    ),
    Case(
        name="both entitlements",
        own_daemon=True,
        files=_runs("--security=insecure --network=host", "echo ran > /out"),
        flags="--allow security.insecure --allow network.host --no-cache" + _LOCAL,
        check=_made("ran"),
        needs="0.26",
    ),
    Case(
        name="host network, not allowed",
        own_daemon=True,
        files=_RUN,
        flags="--opt force-network-mode=host --no-cache" + _LOCAL,
        error="network.host is not allowed",
    ),
    Case(
        name="insecure, not allowed",
        own_daemon=True,
        files=_runs("--security=insecure", "echo ran > /out"),
        flags="--no-cache" + _LOCAL,
        error="security.insecure is not allowed",
        needs="0.26",
    ),
    Case(
        name="an entitlement that the daemon refuses",
        files=_RUN,
        flags="--allow security.insecure" + _LOCAL,
        error="granting entitlement security.insecure is not allowed by build daemon configuration",
    ),
    Case(name="an unknown entitlement", flags="--allow everything", error="unknown entitlement everything"),
    Case(
        name="a device that nothing asks for",
        files=_RUN,
        flags="--allow device=vendor.com/none=x" + _LOCAL,
        check=_made("ran"),
        needs="0.21",
    ),
    # source policies
    Case(
        name="policy that denies",
        files=_RUN,
        more=_policy("DENY", "docker-image://*"),
        flags=_POLICY + _LOCAL,
        error="denied by policy",
    ),
    Case(
        name="policy that allows",
        files=_RUN,
        more=_policy("ALLOW", "docker-image://*"),
        flags=_POLICY + _LOCAL,
        check=_made("ran"),
    ),
    Case(
        name="policy that converts",
        files=dockerfile("FROM example.invalid/b:1 AS b\nRUN echo ran > /out\nFROM scratch\nCOPY --from=b /out /\n"),
        more=_policy("CONVERT", "docker-image://example.invalid/b:1", identifier="docker-image://{base}"),
        flags=_POLICY + _LOCAL,
        check=_made("ran"),
    ),
    Case(
        name="policy that sets attributes",
        files=dockerfile("FROM scratch\nADD {http}/page /out\n"),
        more=_policy("CONVERT", "{http}/page", attrs={"http.checksum": "sha256:" + "0" * 64}),
        flags=_POLICY + _LOCAL,
        error="digest mismatch",
    ),
    Case(
        name="policy that is no JSON",
        more={"policy.json": b"nothing"},
        flags=_POLICY,
        error="failed to unmarshal source-policy-file",
        ignore={"error": "the reader of JSON has other words"},
    ),
    Case(
        name="policy with an unknown action",
        more={"policy.json": b'{"rules": [{"action": "BURN"}]}'},
        flags=_POLICY,
        error="failed to unmarshal source-policy-file",
        ignore={"error": "the reader of JSON has other words"},
    ),
    Case(name="policy file not there", flags="--source-policy-file {arm}/none", error="no such file or directory"),
]
