"""The graphs of ``tests/support/go/llb/graphs.go``, written with our library under the same names.

``tests/wire/llb/graphs.json`` has what Go's package made of them; ``llb record`` writes it anew.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from buildkit_client import llb
from buildkit_client.gateway import ResolvedImage
from buildkit_client.oci import Platform

RECORDED = Path(__file__).parents[2] / "wire" / "llb" / "graphs.json"
RECORDED_BASE = "docker.io/library/busybox:latest"

SOME_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
OTHER_DIGEST = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
IMAGE_CONFIG = (
    b'{"architecture":"arm64","os":"linux","variant":"v8","config":'
    b'{"Env":["PATH=/usr/bin:/bin","A=1","EMPTY=","A=2"],"WorkingDir":"/srv"}}'
)
CREATED = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

GRAPHS: dict[str, Callable[[str], llb.State]] = {}
PLATFORMS = {
    "filters": Platform("linux", "arm", "v6"),
    "platform-windows": Platform("windows", "amd64", "", "10.0.17763.1", ("win32k", "a")),
}
FILTERS = {"filters": ["all"]}


@dataclass(frozen=True)
class Recorded:
    """What Go's package made of a graph."""

    name: str
    ops: list[str]
    definition: bytes


def recorded(text: str | None = None) -> list[Recorded]:
    """Return what is recorded, or what the Go program printed just now."""
    document = json.loads(RECORDED.read_text("utf-8") if text is None else text)
    return [Recorded(one["name"], one["ops"], base64.b64decode(one["definition"])) for one in document]


def marshal(name: str, base: str = RECORDED_BASE) -> llb.Definition:
    """Return the definition of our graph of that name, marshalled as the Go program does."""
    state = GRAPHS[name](base)
    platform = PLATFORMS.get(name, Platform("linux", "amd64"))
    return state.marshal(platform=platform, require=FILTERS.get(name, ()), local_unique_id="unique")


def graph(name: str) -> Callable[[Callable[[str], llb.State]], Callable[[str], llb.State]]:
    def register(build: Callable[[str], llb.State]) -> Callable[[str], llb.State]:
        GRAPHS[name] = build
        return build

    return register


def found(ref: str, platform: Platform, resolve_mode: str) -> llb.ResolvedImage:
    assert resolve_mode == "default"
    assert platform.os == "linux"
    return ResolvedImage(ref, SOME_DIGEST, json.loads(IMAGE_CONFIG))


GRAPHS |= {
    # sources
    "scratch": lambda _: llb.scratch(),
    "image": llb.image,
    "image-short-name": lambda _: llb.image("alpine"),
    "image-tag-and-digest": lambda _: llb.image(f"ghcr.io/a/b:1@{SOME_DIGEST}"),
    "image-platform": lambda base: llb.image(base, platform="linux/arm/v7").run("uname -m").root(),
    "image-options": lambda base: llb.image(
        base, resolve_mode="pull", checksum=SOME_DIGEST, layer_limit=2, internal=True
    ),
    "image-prefer-local": lambda base: llb.image(base, resolve_mode="local", layer_limit=0),
    "image-config": lambda base: llb.image(base).with_image_config(IMAGE_CONFIG).run("env").root(),
    "image-resolved": lambda base: llb.image(base, resolver=found, platform="linux/arm64").run("env").root(),
    "image-resolved-digest": lambda base: (
        llb.image(base, resolver=found, resolve_digest=True, platform="linux/arm64").run("env").root()
    ),
    "image-resolved-digest-given": lambda _: (
        llb.image(f"alpine@{OTHER_DIGEST}", resolver=found, resolve_digest=True).run("env").root()
    ),
    "oci-layout": lambda _: llb.oci_layout(f"app@{SOME_DIGEST}", session_id="session", store_id="store", layer_limit=3),
    "oci-layout-plain": lambda _: llb.oci_layout(f"app@{SOME_DIGEST}", platform="linux/arm64"),
    "local": lambda _: llb.local("context"),
    "local-own-id": lambda _: llb.local("context", unique_id="mine"),
    "local-options": lambda _: llb.local(
        "context",
        include_patterns=["*.go", "<a&b>", '"q"\\\n\t\x01\u2028é\U0001f600\x7f'],
        exclude_patterns=["node_modules", "!keep"],
        follow_paths=["a/b"],
        shared_key_hint="hint",
        session_id="session",
        differ="none",
        differ_required=True,
    ),
    "local-differ": lambda _: llb.local("context", differ="metadata"),
    "local-metadata-only": lambda _: llb.local("context", metadata_only=True, metadata_only_exceptions=["go.mod"]),
    "local-metadata-only-all": lambda _: llb.local("context", metadata_only=True),
    "git": lambda _: llb.git("https://github.com/moby/buildkit.git", "v0.11.6"),
    "git-no-scheme": lambda _: llb.git("github.com/moby/buildkit.git"),
    "git-fragment": lambda _: llb.git("https://user:p%40ss@example.com:8443/a//b/../repo.git", "main:/sub//dir/"),
    "git-options": lambda _: llb.git(
        "http://example.com/repo.git",
        "old:there",
        ref="refs/heads/x",
        subdir="sub",
        keep_git_dir=True,
        checksum="1111111111111111111111111111111111111111",
        auth_token_secret="token",
        auth_header_secret="header",
        skip_submodules=True,
        mtime="commit",
        fetch_by_commit=True,
    ),
    "git-no-secrets": lambda _: llb.git("https://example.com/repo.git", auth_token_secret="", auth_header_secret=""),
    "git-one-secret": lambda _: llb.git("https://example.com/repo.git", auth_token_secret=""),
    "git-ssh": lambda _: llb.git(
        "ssh://git@example.com:2222/repo.git", known_ssh_hosts="example.com ssh-ed25519 AAAA", mount_ssh_sock="agent"
    ),
    "git-scp": lambda _: llb.git("git@github.com:moby/buildkit.git", "main", known_ssh_hosts=["a b c\n", "d e f"]),
    "http": lambda _: llb.http("https://example.com/file.tar.gz"),
    "http-options": lambda _: llb.http(
        "http://example.com/f",
        checksum=SOME_DIGEST,
        filename="name",
        chmod=0o755,
        chown=(1000, 0),
        auth_header_secret="header",
    ),
    "http-group": lambda _: llb.http("http://example.com/f", chown=(0, 7)),
    # run
    "run": lambda base: llb.image(base).run(r"""sh -c 'echo "a b" > /out' plain\ word "x\y" # end""").root(),
    "run-scratch": lambda _: llb.scratch().run(["/init", ""]).root(),
    "run-empty-proxy": lambda base: llb.image(base).run("true", proxy=llb.ProxyEnv()).root(),
    "run-values-stay-inside": lambda base: llb.image(base).run("one", env={"A": "1"}, cwd="/x").run("two").root(),
    "mounts-before-root": lambda base: llb.image(base).run("make", mounts=[llb.Mount("!odd", llb.scratch())]).root(),
    "readonly-root": lambda base: llb.image(base).run("make", readonly_root=True).root(),
    "secret-file-only": lambda base: llb.image(base).run("true", secrets=[llb.Secret("id", "/s")]).root(),
    "ssh-sock-set": lambda base: (
        llb.image(base)
        .add_env("SSH_AUTH_SOCK", "/mine")
        .add_env("Z", "1")
        .run("true", ssh=[llb.SshSocket(target="/a")])
        .root()
    ),
    "resources": lambda base: (
        llb.image(base)
        .run(
            "true",
            resources=llb.LinuxResources(
                memory_bytes=1 << 30,
                memory_swap_bytes=-1,
                cpu_shares=512,
                cpu_period_us=100000,
                cpu_quota_us=50000,
                cpuset_cpus="0-1",
                cpuset_mems="0",
            ),
        )
        .root()
    ),
    # file
    "mkdir": lambda base: llb.image(base).file(llb.mkdir("/x")),
    "file-chain": lambda base: (
        llb.scratch()
        .dir("/work")
        .file(
            llb.mkdir("a/b", mode=0o700, make_parents=True, owner=(10, 20))
            .mkfile("a/b/f", "data", mode=0o600, owner="nobody:staff")
            .mkfile("/empty", b"", owner="7:root")
            .symlink("../target", "/link", created_time=CREATED)
            .rm("gone*", allow_wildcard=True, allow_not_found=True)
            .rm("a/")
            .copy(llb.image(base).dir("/src"), "rel", "dst/")
        )
    ),
    "file-owner-names": lambda base: llb.image(base).file(
        llb.mkdir("/a", owner="www:")
        .mkdir("/b", owner=":staff")
        .mkdir("/c", owner="2147483648:2147483647")
        .copy(llb.image("other"), "/f", "/g", owner="app:app")
    ),
    "file-times": lambda base: llb.scratch().file(
        llb.mkdir("/d", created_time=CREATED)
        .mkfile("/f", "x", created_time=EPOCH)
        .copy(llb.image(base), "/a", "/b", created_time=EPOCH - timedelta(seconds=0.5))
    ),
    "copy-options": lambda _: llb.scratch().file(
        llb.copy(
            llb.local("context"),
            "/src/*",
            "/dst/.",
            mode=0o640,
            follow_symlinks=True,
            copy_dir_contents_only=True,
            include_patterns=["a", "b"],
            exclude_patterns=["c"],
            required_paths=["must"],
            attempt_unpack=True,
            create_dest_path=True,
            allow_wildcard=True,
            allow_empty_wildcard=True,
            always_replace_existing_dest_paths=True,
        )
    ),
    "copy-mode-text": lambda base: llb.scratch().file(
        llb.copy(llb.image(base), ".", ".", mode="u=rwX,go=rX").copy(llb.image(base), "/a", "/b", mode=0)
    ),
    "copy-scratch": lambda base: llb.image(base).file(llb.copy(llb.scratch(), "/", "/x")),
    "file-twice": lambda base: llb.image(base).file(llb.mkdir("/a")).file(llb.mkdir("/b")),
    # merge, diff
    "merge-same": lambda base: llb.merge([llb.image(base), llb.image(base)], custom_name="both"),
    "merge-one": lambda base: llb.merge([llb.scratch(), llb.image(base)]),
    "merge-none": lambda _: llb.merge([llb.scratch()]),
    "diff-to-scratch": lambda base: llb.diff(llb.image(base), llb.scratch()),
    "diff-from-scratch": lambda base: llb.diff(llb.scratch(), llb.image(base)),
    # constraints
    "filters": lambda base: llb.image(base, require=["own"]).run("true").root(),
    "platform-windows": lambda base: llb.image(base).run("cmd").root(),
    "platform-state": lambda base: (
        llb.image(base)
        .platform(Platform("linux", "aarch64", "v8"))
        .run("a")
        .run("b", platform="linux/s390x")
        .run("c")
        .root()
    ),
    "platform-mount": lambda base: (
        llb.image(base)
        .run("make", platform="linux/arm64", mounts=[llb.Mount("/o", llb.scratch())])
        .get_mount("/o")
        .run("next")
        .root()
    ),
}


@graph("run-values")
def _run_values(base: str) -> llb.State:
    return (
        llb.image(base)
        .add_env("A", "1")
        .add_env("B", "2")
        .add_env("A", "3")
        .dir("/srv")
        .dir("app/../lib")
        .user("nobody:daemon")
        .hostname("here")
        .network("host")
        .security("insecure")
        .add_extra_host("one", "10.0.0.1")
        .add_extra_host("two", "2001:DB8:0:0:1:0:0:1")
        .add_ulimit("nofile", 1024, 2048)
        .with_cgroup_parent("parent")
        .run("true")
        .run("again")
        .root()
    )


@graph("run-options")
def _run_options(base: str) -> llb.State:
    exec_state = (
        llb.image(base)
        .add_env("A", "1")
        .user("root")
        .run(
            "true",
            env={"B": "2", "A": "9"},
            cwd="work",
            user="7",
            hostname="there",
            network="none",
            security="sandbox",
            extra_hosts={"mapped": "::ffff:10.1.2.3"},
            ulimits={"core": (0, -1)},
            cgroup_parent="other",
            valid_exit_codes=[0, 3, 255],
            readonly_root=True,
            mounts=[llb.Mount("/out", llb.scratch())],
            proxy=llb.ProxyEnv(
                http_proxy="http://p", https_proxy="https://p", ftp_proxy="f", no_proxy="n", all_proxy="a"
            ),
            devices=[llb.CdiDevice("vendor.com/dev=one"), llb.CdiDevice("vendor.com/dev=two", optional=True)],
        )
    )
    return exec_state.get_mount("/out")


@graph("mounts")
def _mounts(base: str) -> llb.State:
    tools = llb.image("tools").dir("/opt")
    exec_state = llb.image(base).run(
        "make",
        mounts=[
            llb.Mount("/z", tools, selector="/bin", readonly=True),
            llb.Mount("/b", llb.scratch()),
            llb.Mount("/a", llb.image(base)),
            llb.Mount("/thrown", llb.local("context"), no_output=True, content_cache="off"),
            llb.TmpfsMount("/t"),
            llb.TmpfsMount("/u", size_bytes=1 << 20),
            llb.Mount("/é", tools, content_cache="on"),
        ],
    )
    # Go's GetMount forgets the values of the source, so its paths start at / for it.
    return llb.scratch().file(
        llb.copy(exec_state.get_mount("/b"), "/", "/b")
        .copy(exec_state.get_mount("/a"), "/", "/a")
        .copy(exec_state.root(), "/", "/root")
        .copy(exec_state.get_mount("/z"), "/", "/z")
        .copy(exec_state.get_mount("/é"), "/", "/e")
    )


@graph("mount-values")
def _mount_values(base: str) -> llb.State:
    source = llb.scratch().dir("/from/source").add_env("S", "1")
    exec_state = llb.image(base).dir("/base").run("make", mounts=[llb.Mount("/out", source)])
    return exec_state.get_mount("/out").run("next").root()


@graph("caches")
def _caches(base: str) -> llb.State:
    return (
        llb.image(base)
        .run(
            "go build",
            mounts=[
                llb.CacheMount("/c1", "one"),
                llb.CacheMount("/c2", "two", sharing="private"),
                llb.CacheMount(
                    "/c3", "three", sharing="locked", source=llb.image("seed"), selector="/seed", readonly=True
                ),
            ],
        )
        .root()
    )


@graph("secrets")
def _secrets(base: str) -> llb.State:
    return (
        llb.image(base)
        .run(
            "true",
            secrets=[
                llb.Secret("npm", "/run/secrets/npm", uid=1, gid=2, mode=0o440, optional=True),
                llb.Secret("token", env="TOKEN"),
                llb.Secret("both", "/both", "BOTH", optional=True),
            ],
        )
        .root()
    )


@graph("ssh")
def _ssh(base: str) -> llb.State:
    sockets = [
        llb.SshSocket(),
        llb.SshSocket("other", "/agent", 3, 4, 0o666, optional=True),
        llb.SshSocket("third"),
    ]
    return llb.image(base).add_env("X", "1").run("true", ssh=sockets).root()


@graph("copy-paths")
def _copy_paths(base: str) -> llb.State:
    source = llb.image(base).dir("/from")
    return (
        llb.scratch()
        .dir("/to")
        .file(
            llb.copy(source, "a/../b/", "c/")
            .copy(source, "//x//y", "/.")
            .copy(source, "", "")
            .copy(source, "../../up", "../../../up/.")
            .copy(source, "/", "/")
            .copy(source, ".", "./")
        )
    )


@graph("copy-same-source")
def _copy_same_source(base: str) -> llb.State:
    image = llb.image(base)
    return image.file(
        llb.copy(image, "/a", "/b").copy(llb.image(base), "/c", "/d").copy(llb.image("other"), "/e", "/f")
    )


@graph("copy-of-files")
def _copy_of_files(base: str) -> llb.State:
    made = llb.mkdir("made").mkfile("made/f", "x").with_state(llb.image(base).dir("/ced"))
    return (
        llb.image("other")
        .dir("/abc")
        .file(
            llb.mkdir("first")
            .copy(made, "made/f", "baz")
            .copy(made, "made", "again")
            .copy(llb.mkfile("/n", b"", mode=0o600).with_state(llb.scratch()), "/n", "/n")
        )
    )


@graph("merge")
def _merge(base: str) -> llb.State:
    image = llb.image(base).add_env("A", "1")
    one = image.run("touch /one", platform="linux/arm64")
    two = image.file(llb.mkfile("/two", "2"))
    return llb.merge([image, llb.scratch(), llb.diff(image, one.root()), llb.diff(image, two)]).run("ls").root()


@graph("names")
def _names(base: str) -> llb.State:
    group = llb.ProgressGroup("g", "group")
    return (
        llb.image(base, custom_name="base", progress_group=group)
        .run(
            "one",
            description={"k": "v", "a": "b"},
            custom_name="step",
            ignore_cache=True,
            progress_group=llb.ProgressGroup("g", "group", weak=True),
            export_cache=True,
        )
        .file(llb.mkdir("/x"), export_cache=False, require=["label==x", "other"])
    )


@graph("same-op-two-names")
def _same_op_two_names(base: str) -> llb.State:
    image = llb.image(base)
    one = image.run("same", description={"one": "1", "n": "1"}, export_cache=True)
    two = image.run("same", description={"two": "2", "n": "2"}, ignore_cache=True)
    return llb.merge([one.root(), two.root()])


@graph("diamond")
def _diamond(base: str) -> llb.State:
    image = llb.image(base)
    left = image.run("left").root()
    right = image.run("right").root()
    joined = llb.scratch().file(llb.copy(left, "/l", "/l"))
    return joined.file(llb.copy(right, "/r", "/r").copy(left, "/l2", "/l2"))


@graph("multi-stage")
def _multi_stage(base: str) -> llb.State:
    source = llb.local("context", shared_key_hint="app", exclude_patterns=[".git"])
    build = (
        llb.image(base)
        .add_env("CGO_ENABLED", "0")
        .dir("/src")
        .run(
            shell="cat *.txt > /out/all",
            mounts=[
                llb.Mount("/src", source, readonly=True),
                llb.Mount("/out", llb.scratch()),
                llb.CacheMount("/root/.cache", "build", sharing="locked"),
            ],
            custom_name="build",
        )
    )
    return llb.scratch().file(
        llb.copy(build.get_mount("/out"), "/all", "/app/all", create_dest_path=True)
        .mkfile("/app/VERSION", "1\n")
        .symlink("all", "/app/link")
    )


@graph("long-chain")
def _long_chain(base: str) -> llb.State:
    return chain(llb.image(base), range(20))


def chain(state: llb.State, numbers: Iterable[int]) -> llb.State:
    for number in numbers:
        state = state.run(["step", str(number)]).root()
    return state


@graph("real")
def _real(base: str) -> llb.State:
    image = llb.image(base).add_env("PATH", "/bin:/usr/bin")
    made = image.run(
        shell="mkdir /made && echo $WHAT > /made/what && hostname > /made/host",
        env={"WHAT": "from go and python"},
        hostname="builder",
    )
    mounted = image.dir("/in").run(
        shell="cp -r . /out/copy && ls /tmp > /out/tmp && touch /cache/x",
        mounts=[
            llb.Mount("/in", llb.local("context", exclude_patterns=["*.log"]), readonly=True),
            llb.Mount("/out", llb.scratch()),
            llb.TmpfsMount("/tmp"),
            llb.CacheMount("/cache", "llb-real"),
        ],
    )
    files = llb.scratch().file(
        llb.mkdir("/dir", mode=0o750, owner=(3, 4), created_time=CREATED)
        .mkfile("/dir/file", "text", mode=0o604, created_time=CREATED)
        .symlink("dir/file", "/link", created_time=CREATED)
        .copy(made.root(), "/made", "/from-run", created_time=CREATED)
        .copy(
            mounted.get_mount("/out"),
            "/*",
            "/mounted/",
            allow_wildcard=True,
            create_dest_path=True,
            created_time=CREATED,
        )
        .rm("/from-run/host")
    )
    patched = image.file(llb.mkfile("/patched", "p", created_time=CREATED))
    return llb.merge([files, llb.diff(image, patched)])
