"""Cases of the frontends: every option of ``dockerfile.v0``, frontends in images, sub-requests."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.compare.case import APP, Case, dockerfile
from tests.integration.compare.observe import Seen
from tests.support.tree import Tree

AREA = "frontends"

_OCI = " --no-cache --output type=oci,dest={out}/image.tar,rewrite-timestamp=true"
_LOCAL = " --output type=local,dest={tree}"
_STAGES = """\
FROM scratch AS small
LABEL stage=small
COPY hello /small
FROM scratch AS other
COPY hello /other
FROM other AS last
ARG WHO=nobody
LABEL who=$WHO
"""
_GATEWAY = "--frontend=gateway.v0 --local=context={context} --local=dockerfile={context} --opt source={frontend}"


def _config(text: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert any(text in str(config) for config in seen.named("/config")), seen.documents

    return check


def _platforms(*wanted: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        found = {config["architecture"] + config.get("variant", "") for config in seen.named("/config")}
        assert found == set(wanted)

    return check


def _made(name: str, content: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        assert seen.text(f"tree/{name}") == content

    return check


def _runs(command: str) -> Tree:
    """A context whose step writes what a command prints."""
    return dockerfile(
        f"FROM {{base}} AS run\nRUN : '{{case}}'; {command} > /out\nFROM scratch\nCOPY --from=run /out /\n"
    )


def _cached(**steps: bool) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        found = {name: cached for name, cached in seen.steps if "COPY" in name}
        assert {stage: any(cached for name, cached in found.items() if stage in name) for stage in steps} == steps

    return check


def _says(*texts: str) -> Callable[[Seen], None]:
    def check(seen: Seen) -> None:
        for text in texts:
            assert text.encode() in seen.stdout, seen.stdout

    return check


_TWICE = "FROM scratch AS one\nCOPY hello /one\nFROM scratch AS two\nCOPY --from=one /one /\nCOPY bin /two\n"

CASES = [
    Case(name="plain", flags=_OCI),
    Case(name="target", files=dockerfile(_STAGES), flags="--opt target=small" + _OCI, check=_config("small")),
    Case(name="build-arg", files=dockerfile(_STAGES), flags="--opt build-arg:WHO=a=b" + _OCI, check=_config("a=b")),
    Case(
        name="build-arg from the environment",
        files=dockerfile(_STAGES),
        environ={"WHO": "me"},
        flags="--opt build-arg:WHO --opt build-arg:NOT_SET" + _OCI,
        check=_config("'me'"),
    ),
    Case(name="label", flags="--opt label:one=1 --opt label:two.three=" + _OCI, check=_config("two.three")),
    Case(name="platform", flags="--opt platform=linux/arm64" + _OCI, check=_platforms("arm64")),
    Case(
        name="platforms",
        flags="--opt platform=linux/amd64,linux/arm64/v8,linux/arm/v7" + _OCI,
        check=_platforms("amd64", "arm64", "armv7"),
    ),
    Case(
        name="platform arguments",
        files=dockerfile(
            "FROM scratch\nARG TARGETPLATFORM TARGETARCH BUILDPLATFORM\nLABEL a=$TARGETARCH,$BUILDPLATFORM\n"
        ),
        flags="--opt platform=linux/riscv64" + _OCI,
        check=_config("riscv64,linux/amd64"),
    ),
    Case(name="multi-platform", flags="--opt multi-platform=1" + _OCI, check=_platforms("amd64")),
    Case(
        name="filename",
        files={**APP, "docker/App": b"FROM scratch\nLABEL app=1\n"},
        flags="--opt filename=docker/App" + _OCI,
        check=_config("app"),
    ),
    Case(
        name="dockerfile in lower case",
        files={"dockerfile": b"FROM scratch\nLABEL lower=1\n"},
        flags=_OCI,
        check=_config("lower"),
    ),
    Case(
        name="ignore file",
        files={**APP, ".dockerignore": b"deep\n!deep/er\nbin/*\n"},
        flags=_LOCAL,
        check=_made("app/deep/er/file", "deep"),
    ),
    Case(
        name="ignore file of a Dockerfile",
        files={**APP, "App": b"FROM scratch\nCOPY . /app/\n", "App.dockerignore": b"deep\n"},
        flags="--opt filename=App" + _LOCAL,
        check=_made("app/bin/tool", "#!/bin/sh\n"),
    ),
    Case(
        name="two folders",
        files=None,
        more={"one/hello": b"1", "two/Dockerfile": b"FROM scratch\nCOPY hello /\n"},
        flags="--frontend dockerfile.v0 --local context=one --local dockerfile=two" + _LOCAL,
        check=_made("hello", "1"),
    ),
    Case(
        name="folders with odd names",
        files=None,
        more={"a b=c,d/hello": b"1", "a b=c,d/Dockerfile": b"FROM scratch\nCOPY hello /\n"},
        flags="--frontend dockerfile.v0 --local 'context=a b=c,d' --local 'dockerfile=a b=c,d'" + _LOCAL,
        check=_made("hello", "1"),
    ),
    Case(
        name="no-cache flag",
        files=dockerfile(_TWICE),
        before=(_LOCAL,),
        flags="--no-cache",
        check=_cached(one=False, two=False),
    ),
    Case(
        name="no-cache for a stage",
        files=dockerfile(_TWICE),
        before=(_LOCAL,),
        flags="--opt no-cache=two",
        check=_cached(one=True, two=False),
    ),
    Case(name="cached", files=dockerfile(_TWICE), flags=_LOCAL, reused=True),
    Case(name="cached, the other way round", files=dockerfile(_TWICE), flags=_LOCAL, reused=True, first="ours"),
    Case(name="cached step", files=_runs("date +%N"), flags=_LOCAL, reused=True),
    Case(
        name="cached step, the other way round", files=_runs("date +%N; true"), flags=_LOCAL, reused=True, first="ours"
    ),
    Case(
        name="add-hosts",
        files=_runs("grep -w box /etc/hosts | tr -s '[:space:]' ' '"),
        flags="--opt add-hosts=box=10.1.2.3" + _LOCAL,
        check=_made("out", "10.1.2.3 box "),
    ),
    Case(
        name="network none",
        files=_runs("ls /sys/class/net"),
        flags="--no-cache --opt force-network-mode=none" + _LOCAL,
        check=_made("out", "lo\n"),
    ),
    Case(
        name="network sandbox",
        files=_runs("echo there"),
        flags="--no-cache --opt force-network-mode=sandbox" + _LOCAL,
        check=_made("out", "there\n"),
    ),
    Case(
        name="shm-size",
        files=_runs("df -k /dev/shm | awk 'END { print $2 }'"),
        flags="--no-cache --opt shm-size=33554432" + _LOCAL,
        check=_made("out", "32768\n"),
    ),
    Case(
        name="ulimit",
        files=_runs("ulimit -n"),
        flags="--no-cache --opt ulimit=nofile=77:88" + _LOCAL,
        check=_made("out", "77\n"),
    ),
    Case(
        name="hostname",
        files=_runs("hostname"),
        flags="--no-cache --opt hostname=box" + _LOCAL,
        check=_made("out", "box\n"),
    ),
    Case(
        name="hostname by build-arg",
        files=_runs("hostname"),
        flags="--no-cache --opt build-arg:BUILDKIT_SANDBOX_HOSTNAME=sand" + _LOCAL,
        check=_made("out", "sand\n"),
    ),
    Case(
        name="cgroup-parent",
        files=_runs("echo ran"),
        flags="--no-cache --opt cgroup-parent=compare" + _LOCAL,
        check=_made("out", "ran\n"),
    ),
    Case(
        name="memory and shares",
        files=_runs("cat /sys/fs/cgroup/memory.max 2> /dev/null || echo old"),
        flags="--no-cache --opt memory=67108864 --opt cpushares=512" + _LOCAL,
        needs="0.31",
    ),
    Case(
        name="image-resolve-mode",
        files=_runs("echo pulled"),
        flags="--no-cache --opt image-resolve-mode=pull" + _LOCAL,
        check=_made("out", "pulled\n"),
    ),
    Case(
        name="proxy variables",
        files=_runs("echo $HTTP_PROXY"),
        flags="--no-cache --opt build-arg:HTTP_PROXY=http://127.0.0.1:1" + _LOCAL,
        check=_made("out", "http://127.0.0.1:1\n"),
    ),
    Case(name="proxy-network", flags="--proxy-network" + _LOCAL, needs="0.31"),
    Case(
        name="a heredoc and mounts",
        files=dockerfile(
            "FROM {base} AS b\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t --mount=target=/src <<E\n"
            "cat /src/hello > /out\nE\nFROM scratch\nCOPY --from=b --chmod=4750 --chown=1:2 /out /\n"
        ),
        flags="--no-cache" + _LOCAL,
    ),
    Case(name="a check that warns", files=dockerfile("from scratch as Small\nCOPY hello /\n"), flags=_LOCAL),
    Case(
        name="gateway with an image",
        files=None,
        more={"context/Dockerfile": b"FROM scratch\nLABEL by=gateway\n"},
        check=_config("by"),
        flags=_GATEWAY + _OCI,
    ),
    Case(
        name="syntax line",
        files=dockerfile("# syntax={frontend}\nFROM scratch\nLABEL by=image\n"),
        flags=_OCI,
        check=_config("'by'"),
    ),
    Case(
        name="syntax by build-arg",
        files=dockerfile(_STAGES),
        flags="--opt build-arg:BUILDKIT_SYNTAX={frontend}" + _OCI,
        check=_config("nobody"),
    ),
    Case(
        name="syntax line with a target",
        files=dockerfile("# syntax={frontend}\n" + _STAGES),
        flags="--opt target=small" + _OCI,
        check=_config("small"),
    ),
    Case(
        area="sub-requests",
        name="describe",
        flags="--opt requestid=frontend.subrequests.describe",
        check=_says("outline", "targets"),
    ),
    Case(
        area="sub-requests",
        name="outline",
        files=dockerfile(_STAGES),
        flags="--opt requestid=frontend.outline",
        check=_says("WHO"),
    ),
    Case(
        area="sub-requests",
        name="outline of a target",
        files=dockerfile(_STAGES),
        flags="--opt requestid=frontend.outline --opt target=small",
        check=_says("small"),
    ),
    Case(
        area="sub-requests",
        name="targets",
        files=dockerfile(_STAGES),
        flags="--opt requestid=frontend.targets",
        check=_says("small", "last"),
    ),
    Case(
        area="sub-requests",
        name="lint",
        files=dockerfile("from scratch as Small\n"),
        flags="--opt requestid=frontend.lint",
        check=_says("StageNameCasing"),
        needs="0.14",
    ),
    Case(area="sub-requests", name="lint without findings", flags="--opt requestid=frontend.lint", needs="0.14"),
    Case(
        area="sub-requests",
        name="lint with rules",
        files=dockerfile("from scratch as Small\n"),
        flags="--opt requestid=frontend.lint --opt build-arg:BUILDKIT_DOCKERFILE_CHECK=skip=StageNameCasing",
        needs="0.14",
    ),
    Case(
        area="sub-requests",
        name="convertllb",
        files=APP,
        flags="--opt requestid=frontend.convertllb",
        ignore={"stdout": "the graph has the id of the session"},
        needs="0.26",
    ),
    Case(
        area="sub-requests",
        name="from a frontend image",
        files=dockerfile("# syntax={frontend}\n" + _STAGES),
        flags="--opt requestid=frontend.targets",
        check=_says("small", "last"),
    ),
    Case(
        area="sub-requests",
        name="of a gateway's image",
        files=dockerfile(_STAGES),
        flags="--frontend=gateway.v0 --opt source={frontend} --opt requestid=frontend.outline",
        check=_says("WHO"),
    ),
]
