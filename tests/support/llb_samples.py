"""A build definition with every kind of operation and action, for tools that show definitions."""

from __future__ import annotations

from buildkit_client._proto import ops_pb2
from buildkit_client.oci.digest import Digest


def sample_definition() -> bytes:
    """Return a serialized ``pb.Definition``; it need not be one that could be built."""
    definition = ops_pb2.Definition()
    ops = getattr(definition, "def")

    def add(op: ops_pb2.Op) -> ops_pb2.Input:
        data = op.SerializeToString(deterministic=True)
        ops.append(data)
        return ops_pb2.Input(digest=Digest.of(data), index=1)

    source = ops_pb2.SourceOp(identifier='local://a"b<c>&é\u2028', attrs={"b": "2", "a": "1"})
    base = add(
        ops_pb2.Op(
            source=source,
            platform=ops_pb2.Platform(Architecture="arm64", OS="linux", Variant="v8"),
            constraints=ops_pb2.WorkerConstraints(filter=["x", "y"]),
        )
    )
    run = add(
        ops_pb2.Op(
            inputs=[base, base],
            exec=ops_pb2.ExecOp(
                meta=ops_pb2.Meta(
                    args=["sh", "-c", 'echo "hi"\n\x01\x7f'], env=["A=b"], cwd="/", proxy_env=ops_pb2.ProxyEnv(),
                    ulimit=[ops_pb2.Ulimit(Name="nofile", Soft=1, Hard=-1)], validExitCodes=[0, 3],
                ),
                mounts=[
                    ops_pb2.Mount(input=0, dest="/", output=0),
                    ops_pb2.Mount(
                        input=1, dest="/cache", output=-1, readonly=True, mountType=ops_pb2.MountType.CACHE,
                        cacheOpt=ops_pb2.CacheOpt(ID="c", sharing=ops_pb2.CacheSharingOpt.LOCKED),
                    ),
                ],
                network=ops_pb2.NetMode.HOST,
                secretenv=[ops_pb2.SecretEnv(ID="s", name="N", optional=True)],
            ),
        )
    )  # fmt: skip
    by_name = ops_pb2.UserOpt(byName=ops_pb2.NamedUserOpt(name="u", input=2))
    actions = [
        ops_pb2.FileAction(
            input=0, secondaryInput=1, output=-1,
            copy=ops_pb2.FileActionCopy(
                src="/a", dest="/b", mode=-1, include_patterns=["*.go"],
                owner=ops_pb2.ChownOpt(user=by_name, group=ops_pb2.UserOpt(byID=7)),
            ),
        ),
        ops_pb2.FileAction(
            mkfile=ops_pb2.FileActionMkFile(
                path="/f", data=b"\x00\xff", owner=ops_pb2.ChownOpt(user=ops_pb2.UserOpt(byID=0))
            )
        ),
        ops_pb2.FileAction(mkdir=ops_pb2.FileActionMkDir(path="/d", makeParents=True, timestamp=-1)),
        ops_pb2.FileAction(rm=ops_pb2.FileActionRm(path="/x", allowNotFound=True)),
        ops_pb2.FileAction(symlink=ops_pb2.FileActionSymlink(oldpath="/o", newpath="/n")),
        ops_pb2.FileAction(),
    ]  # fmt: skip
    files = add(ops_pb2.Op(inputs=[run], file=ops_pb2.FileOp(actions=actions)))
    merged = add(
        ops_pb2.Op(inputs=[run, files], merge=ops_pb2.MergeOp(inputs=[ops_pb2.MergeInput(input=n) for n in (0, 1)]))
    )
    difference = ops_pb2.DiffOp(lower=ops_pb2.LowerDiffInput(input=-1), upper=ops_pb2.UpperDiffInput(input=1))
    diff = add(ops_pb2.Op(inputs=[merged, run], diff=difference))
    build = ops_pb2.BuildOp(builder=-1, inputs={"x": ops_pb2.BuildInput(input=0)}, attrs={"llb-filename": "y"})
    built = add(ops_pb2.Op(inputs=[diff], build=build))
    passed = add(ops_pb2.Op(inputs=[built], passthrough=ops_pb2.PassthroughOp(id="p", outputs=[0, 2])))
    add(ops_pb2.Op(inputs=[passed]))
    metadata = definition.metadata[run.digest]
    metadata.ignore_cache = True
    metadata.description["llb.custom"] = "text <&>"
    metadata.caps["exec.meta.base"] = True
    metadata.caps["exec.mount.bind"] = False
    metadata.export_cache.SetInParent()
    metadata.progress_group.id = "g"
    metadata.linux_resources.memory = 5
    return definition.SerializeToString(deterministic=True)
