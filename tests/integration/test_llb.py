"""Graphs written in Python: next to Go's llb package, and really built."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from buildkit_client import Client, OptionError, SecretValue, SolveError, llb
from buildkit_client._proto import ops_pb2
from buildkit_client.gateway import Gateway, GatewayResult
from buildkit_client.llb.git_url import GitUrl
from buildkit_client.llb.words import split_words
from buildkit_client.oci import Digest
from buildkit_client.options import LocalExporter
from buildkit_client.progress import BuildGraph
from tests.support.go_tools import GoToolMissingError, go_tool
from tests.unit.llb.graphs import marshal, recorded

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def go() -> Path:
    try:
        return go_tool("llb")
    except GoToolMissingError as exc:
        pytest.skip(str(exc))


class TestBesideGo:
    def test_what_is_recorded_still_holds(self, go):
        printed = subprocess.run([go, "record"], capture_output=True, text=True, check=True).stdout
        assert recorded(printed) == recorded()

    @pytest.mark.parametrize("name", ["real", "multi-stage", "copy-of-files"])
    def test_raw_llb_of_go_is_read(self, go, name):
        data = go_bytes(go, name, "example.com/base:1")
        assert llb.Definition.from_bytes(data) == marshal(name, "example.com/base:1")

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_generated_graphs(self, go, seed):
        recipes = [recipe(random.Random(seed * 1000 + number)) for number in range(500)]
        expected = ask(go, "build", recipes)
        assert sum(map(len, expected)) > 3500
        wrong = [steps for steps, digests in zip(recipes, expected, strict=True) if built(steps) != digests]
        assert not wrong, f"{len(wrong)} differ, the shortest: {min(wrong, key=len)}"

    def test_words(self, go):
        rng = random.Random(1)
        texts = ["".join(rng.choices("ab \t\n\r'\"\\#$é", k=rng.randrange(14))) for _ in range(4000)]
        expected = ask(go, "words", texts)
        assert sum(words is None for words in expected) > 500
        assert [split(text) for text in texts] == expected

    def test_git_addresses(self, go):
        rng = random.Random(2)
        schemes = ["https://", "http://", "ssh://", "git://", "HTTPS://", "ftp://", ""]
        logins = ["", "", "git@", "user:pass@", "u%40x:p%2Fq@", "u!:$&@", "a.b~c-_:%7e@"]
        hosts = ["example.com", "example.com:8443", "EXAMPLE.com", "10.0.0.1", "[::1]:22", "host"]
        paths = ["", "/", "/a/b.git", "//a//b", "/a/../b", "/~u/r", "/a%20b", "/(x)!*'", "/%C3%A9", ":moby/x.git"]
        texts = ["".join(map(rng.choice, (schemes, logins, hosts, paths))) for _ in range(1500)]
        expected = ask(go, "git", texts)
        assert sum(address is not None for address in expected) > 1000
        wrong = [
            (text, ours, theirs) for text, theirs in zip(texts, expected, strict=True) if (ours := git(text)) != theirs
        ]
        assert not wrong


class TestBuilds:
    @pytest.mark.buildkit(">=0.19")
    def test_same_files_as_buildctl_and_everything_cached(self, services, go, tmp_path):
        context = make_context(tmp_path)
        data = go_bytes(go, "real", services.base_image)
        buildctl(
            services, "--output", f"type=local,dest={tmp_path / 'theirs'}", "--local", f"context={context}", data=data
        )
        definition = marshal("real", services.base_image)
        graph = solve(services, definition, tmp_path / "ours", context)
        assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")
        assert (tmp_path / "ours/from-run/what").read_text() == "from go and python\n"
        assert not (tmp_path / "ours/from-run/host").exists()
        assert (tmp_path / "ours/mounted/copy/name").read_text() == (context / "name").read_text()
        assert not (tmp_path / "ours/mounted/copy/x.log").exists()
        assert (tmp_path / "ours/mounted/tmp").read_bytes() == b""
        assert (tmp_path / "ours/patched").read_text() == "p"
        kinds = {Digest.of(op): ops_pb2.Op.FromString(op).WhichOneof("op") for op in definition.ops}
        steps = [graph.vertex(digest) for digest, kind in kinds.items() if kind == "exec"]
        assert [step is not None and step.cached for step in steps] == [True, True]

    @pytest.mark.buildkit(">=0.19")
    def test_buildctl_takes_our_bytes(self, services, tmp_path):
        context = make_context(tmp_path)
        definition = marshal("real", services.base_image)
        options = ("--output", f"type=local,dest={tmp_path / 'theirs'}", "--local", f"context={context}")
        buildctl(services, *options, data=definition.to_bytes())
        solve(services, definition, tmp_path / "ours", context)
        assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")

    def test_buildctl_dumps_our_bytes_like_those_of_go(self, services, go):
        ours = dump(services, marshal("multi-stage", services.base_image).to_bytes())
        assert ours == dump(services, go_bytes(go, "multi-stage", services.base_image))
        assert len(ours) == 5

    @pytest.mark.buildkit(">=0.17")
    def test_options_of_a_step(self, services, tmp_path):
        state = llb.image(services.base_image).run(
            shell="""
            exec > /o/all
            id -u; pwd; hostname; echo $A-$TOKEN; cat /secret; grep added /etc/hosts; ulimit -n; ls /cache /mem
            touch /root-is-readonly 2> /dev/null && echo writable
            exit 7
            """,
            env={"A": "1"},
            cwd="/some/where",
            user="0",
            hostname="there",
            extra_hosts={"added": "10.9.8.7"},
            ulimits={"nofile": (111, 222)},
            valid_exit_codes=[0, 7],
            readonly_root=True,
            network="none",
            secrets=[llb.Secret("id", "/secret", "TOKEN")],
            mounts=[
                llb.Mount("/o", llb.scratch()),
                llb.Mount("/some/where", llb.scratch(), no_output=True),
                llb.CacheMount("/cache", f"test-{uuid.uuid4()}", source=llb.scratch().file(llb.mkfile("/seeded", ""))),
                llb.TmpfsMount("/mem", size_bytes=1 << 20),
            ],
            ignore_cache=True,
        )
        definition = state.get_mount("/o").marshal()
        solve(services, definition, tmp_path / "out", secrets={"id": SecretValue(b"hush")})
        lines = (tmp_path / "out/all").read_text().split()
        assert lines == [
            "0",
            "/some/where",
            "there",
            "1-hush",
            "hush10.9.8.7",
            "added",
            "111",
            "/cache:",
            "seeded",
            "/mem:",
        ]

    def test_a_failing_step_is_told_with_its_name_and_code(self, services, tmp_path):
        state = llb.image(services.base_image).run("sh -c 'exit 3'", custom_name="the one that fails")
        with pytest.raises(SolveError) as caught:
            solve(services, state.marshal(), tmp_path / "out")
        assert caught.value.exit_code == 3
        assert caught.value.vertex_name == "the one that fails"

    def test_config_of_the_base_image_through_a_gateway(self, services, tmp_path):
        ran: list[str | None] = []

        def build(gateway: Gateway) -> GatewayResult:
            image = llb.image(
                services.base_image,
                resolve_digest=True,
                resolver=lambda ref, platform, mode: gateway.resolve_image(ref, platform=str(platform), mode=mode),
            )
            ran.append(image.get_env("PATH"))
            made = image.run("sh -c 'echo $PATH > /path'").root()
            return gateway.solve(llb.scratch().file(llb.copy(made, "/path", "/path")).marshal())

        with Client(services.buildkit_host) as client:
            client.run_gateway(build, exporters=[LocalExporter(dest=tmp_path)])
        assert ran[0]
        assert (tmp_path / "path").read_text() == f"{ran[0]}\n"


class TestExamplesAndDocs:
    def test_hello(self, services, tmp_path):
        printed = run_example(services, "llb_hello.py", services.base_image, "out", cwd=tmp_path)
        assert printed.startswith("hello from ")
        assert (tmp_path / "out/greeting").read_text() == printed

    def test_app(self, services, tmp_path):
        pages = tmp_path / "pages"
        pages.mkdir()
        (pages / "a.html").write_text(f"<p>{uuid.uuid4()}</p>")
        (pages / "notes.txt").write_text("not a page")
        printed = run_example(services, "llb_app.py", "pages", services.base_image, "out", cwd=tmp_path)
        assert printed.split() == ["VERSION", "etc", "etc/site.conf", "site", "site/a.html.gz"]
        unpacked = subprocess.run(["gzip", "-dc", tmp_path / "out/site/a.html.gz"], capture_output=True, check=True)
        assert unpacked.stdout == (pages / "a.html").read_bytes()

    @pytest.mark.buildkit(">=0.19")
    def test_the_example_of_the_docs(self, services, tmp_path):
        text = (REPOSITORY / "docs/llb.md").read_text("utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        assert len(blocks) == 1
        run_python(services, "-c", blocks[0], cwd=tmp_path)
        assert (tmp_path / "out/result/latest").readlink() == Path("count")


def recipe(rng):
    """Return the steps of a random graph, as tests/support/go/llb/recipe.go reads them."""
    steps = [{"op": "scratch"}, {"op": "image", "text": "one"}, {"op": "image", "text": "two", "arm": True}]
    steps.append({"op": "local", "text": "context"})
    states = len(steps)

    def any_state():
        return rng.randrange(states)

    def path():
        return rng.choice(["", "/", ".", "..", "a", "/a/", "a/b/.", "//a/../c", "é"])

    def actions(depth=0):
        count = rng.randrange(1, 4)
        return [
            {
                "op": rng.choice(["mkdir", "mkfile", "rm", "symlink", "copy", "copy"]),
                "path": path(),
                "dest": path(),
                "owner": rng.choice(["root", "7:8", "app:staff", ":", "x:"]),
                "of": any_state(),
                "bound": actions(depth + 1) if depth < 2 and rng.random() < 0.3 else None,
            }
            for _ in range(count)
        ]

    for _ in range(rng.randrange(1, 9)):
        step = {
            "op": rng.choice(["run", "run", "file", "file", "merge", "diff", "env", "dir"]),
            "arm": rng.random() < 0.2,
        }
        step["of"] = [any_state() for _ in range(rng.randrange(5) if step["op"] == "merge" else 2)]
        step["text"] = path() if step["op"] == "dir" else rng.choice("abc")
        if step["op"] == "file":
            step["actions"] = actions()
        if step["op"] == "run":
            step["readonly"] = rng.random() < 0.2
            targets = rng.sample(["/a", "/b", "!c", "/é", "/a/b"], rng.randrange(4))
            kinds = ["bind", "bind", "readonly", "no_output", "cache", "tmpfs"]
            step["mounts"] = [
                {"target": target, "of": any_state(), "kind": rng.choice(kinds), "selector": rng.choice(["", "/s"])}
                for target in targets
            ]
        steps.append(step)
        states += 1 + sum(mount["kind"] in ("bind", "readonly") for mount in step.get("mounts", ()))
    return [*steps, {"op": "merge", "of": list(range(states))}]


def built(steps):
    states = []
    for step in steps:
        states += made(step, states)
    definition = states[-1].marshal(platform="linux/amd64", local_unique_id="unique")
    return [Digest.of(op) for op in definition.ops]


def made(step, states):
    options = {"platform": "linux/arm64"} if step.get("arm") else {}
    of = [states[number] for number in step.get("of", ())]
    text = step.get("text", "")
    match step["op"]:
        case "scratch":
            return [llb.scratch()]
        case "image":
            return [llb.image(text, **options)]
        case "local":
            return [llb.local(text)]
        case "env":
            return [of[0].add_env(text, text)]
        case "dir":
            return [of[0].dir(text)]
        case "merge":
            return [llb.merge(of, **options)]
        case "diff":
            return [llb.diff(of[0], of[1], **options)]
        case "file":
            return [of[0].file(chain(step["actions"], states), **options)]
    mounts = [mounted(mount, states) for mount in step["mounts"]]
    exec_state = of[0].run([text], mounts=mounts, readonly_root=step["readonly"], **options)
    kept = [mount["target"] for mount in step["mounts"] if mount["kind"] in ("bind", "readonly")]
    return [exec_state.root(), *map(exec_state.get_mount, kept)]


def mounted(mount, states):
    target, source, selector = mount["target"], states[mount["of"]], mount["selector"]
    match mount["kind"]:
        case "tmpfs":
            return llb.TmpfsMount(target)
        case "cache":
            return llb.CacheMount(target, "id", source=source, selector=selector)
        case kind:
            return llb.Mount(target, source, selector, readonly=kind == "readonly", no_output=kind == "no_output")


def chain(actions, states):
    result = llb.mkdir("/", make_parents=True)
    for action in actions:
        path, dest, source = action["path"], action["dest"], states[action["of"]]
        match action["op"]:
            case "mkdir":
                result = result.mkdir(path, owner=action["owner"])
            case "mkfile":
                result = result.mkfile(path, dest)
            case "rm":
                result = result.rm(path)
            case "symlink":
                result = result.symlink(dest, f"/{path}")
            case _:
                bound = action["bound"]
                source = source if bound is None else chain(bound, states).with_state(source)
                result = result.copy(source, path, dest, owner=action["owner"])
    return result


def go_bytes(go, name, base):
    return subprocess.run([go, "marshal", name, base], capture_output=True, check=True).stdout


def ask(go, what, texts):
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run([go, what], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def split(text):
    try:
        return split_words(text)
    except OptionError:
        return None


def git(text):
    try:
        address = GitUrl.parse(text)
    except OptionError:
        return None
    return {"id": f"git://{address.id('', '')}", "remote": address.remote}


def make_context(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "name").write_text(str(uuid.uuid4()))
    (context / "x.log").write_text("left out")
    return context


def buildctl(services, *options, data):
    command = [services.buildctl, "--addr", services.buildkit_host, "build", *options]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def dump(services, data):
    done = subprocess.run([services.buildctl, "debug", "dump-llb"], input=data, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def solve(services, definition, dest, context=None, **options):
    graph = BuildGraph()
    with Client(services.buildkit_host) as client:
        client.solve(
            definition,
            local_dirs={"context": context} if context else {},
            exporters=[LocalExporter(dest=dest)],
            on_status=graph.apply,
            **options,
        )
    return graph


def listing(root):
    """Return what distinguishes two trees; owners only as root, who alone can be given other people's files."""
    entries = {}
    for path in sorted(root.rglob("*")):
        stat = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        owner = (stat.st_uid, stat.st_gid) if os.geteuid() == 0 else None
        entries[str(path.relative_to(root))] = (oct(stat.st_mode), owner, content)
    return entries


def run_example(services, name, *arguments, cwd):
    return run_python(services, REPOSITORY / "examples" / name, *arguments, cwd=cwd)


def run_python(services, *arguments, cwd):
    environ = {**os.environ, "BUILDKIT_HOST": services.buildkit_host, "PYTHONPATH": str(REPOSITORY)}
    environ["BASE_IMAGE"] = services.base_image
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(map(str, arguments))}: {done.stderr}"
    return done.stdout
