"""The tree of commands: names and flags of ``buildctl``, and where each command is done.

Only names here, no imports of what they do: printing help must not load gRPC.

Reference: cmd/buildctl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.cli.flags import Command, Flag

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "buildkit-client"
_DEFAULT_ADDRESS = "unix:///run/buildkit/buildkitd.sock"  # util/appdefaults/appdefaults_unix.go
_DEFAULT_ROOT = "/var/lib/buildkit"

_FORMAT = Flag("format", "Print with a Go template, e.g. '{{json .}}'")
_FILTER = Flag("filter", "Only records that match this containerd filter", "strings", ("f",))
_VERBOSE = Flag("verbose", "Print everything that is known", "bool", ("v",))

_BUILD_EXAMPLE = f"""\
To build an image from a Dockerfile and push it:
  $ {PROGRAM} build --frontend dockerfile.v0 --opt target=foo --opt build-arg:foo=bar \
--local context=. --local dockerfile=. --output type=image,name=docker.io/username/image,push=true
"""

_BUILD = Command(
    "build",
    "build",
    "buildkit_client.cli.build:run",
    aliases=("b",),
    example=_BUILD_EXAMPLE,
    flags=(
        Flag("output", "Where the result goes, e.g. type=image,name=docker.io/user/image,push=true", "strings", ("o",)),
        Flag("progress", "How progress is shown: auto, plain, tty, rawjson, quiet", default="auto"),
        Flag("trace", "Append every progress message to this file, as JSON"),
        Flag("local", "Local directory that the build may read, e.g. context=.", "strings"),
        Flag("oci-layout", "OCI image layout that the build may read, as id=path", "strings"),
        Flag("frontend", "What reads the build's description, e.g. dockerfile.v0"),
        Flag("opt", "Option of the frontend, e.g. target=foo or build-arg:foo=bar", "strings"),
        Flag("no-cache", "Run every step again", "bool"),
        Flag("export-cache", "Write the build's cache, e.g. type=registry,ref=example.com/foo/bar", "strings"),
        Flag("import-cache", "Use a cache, e.g. type=registry,ref=example.com/foo/bar", "strings"),
        Flag("secret", "Secret for the build, as id=name,src=path or id=name,env=NAME", "strings"),
        Flag("allow", "What the build may do beyond the sandbox, e.g. network.host, security.insecure", "strings"),
        Flag("ssh", "SSH agent, keys or socket for the build, as default|<id>[=<path>[,<path>]]", "strings"),
        Flag("metadata-file", "Write what the exporters say, such as the image's digest, to this file as JSON"),
        Flag("source-policy-file", "Policy about sources, from a JSON file"),
        Flag("proxy-network", "Run steps behind the daemon's network proxy", "bool"),
        Flag("ref-file", "Write the build's id to this file"),
        Flag("registry-auth-tlscontext", "TLS for logins to a registry, as host=<host>,ca=<path>,…", "strings"),
        Flag("debug-json-cache-metrics", "Write how much came from the cache, as JSON, to this file, stdout or stderr"),
    ),
)

_DISK_USAGE = Command(
    "du", "disk usage", "buildkit_client.cli.usage:run_disk_usage", flags=(_FILTER, _VERBOSE, _FORMAT)
)

_PRUNE = Command(
    "prune",
    "clean up build cache",
    "buildkit_client.cli.usage:run_prune",
    flags=(
        Flag("keep-duration", "Keep what was used within this time", "duration"),
        Flag("keep-storage", "Remove until no more than this is used (in MB)", "float"),
        Flag("keep-storage-min", "Never go below this (in MB)", "float"),
        Flag("free-storage", "Remove until this much of the disk is free (in MB)", "float"),
        _FILTER,
        Flag("all", "Also internal, frontend and shared records", "bool"),
        _VERBOSE,
        _FORMAT,
    ),
)

_PRUNE_HISTORIES = Command(
    "prune-histories",
    "clean up build histories",
    "buildkit_client.cli.debug_history:run_prune_histories",
    flags=(_FORMAT,),
)

_DEBUG = Command(
    "debug",
    "debug utilities",
    commands=(
        Command(
            "dump-llb",
            "show an LLB definition, from a file or standard input; needs no daemon",
            "buildkit_client.cli.debug_llb:run_dump_llb",
            flags=(Flag("dot", "Print a graph for Graphviz", "bool"),),
            arguments="<llbfile>",
        ),
        Command(
            "dump-metadata",
            "show the daemon's metadata; needs the daemon NOT to run",
            "buildkit_client.cli.debug_metadata:run_dump_metadata",
            flags=(Flag("root", "the daemon's state directory", default=_DEFAULT_ROOT),),
        ),
        Command("workers", "list workers", "buildkit_client.cli.debug:run_workers", flags=(_FILTER, _VERBOSE, _FORMAT)),
        Command("info", "display internal information", "buildkit_client.cli.debug:run_info", flags=(_FORMAT,)),
        Command(
            "monitor",
            "display build events",
            "buildkit_client.cli.debug_history:run_monitor",
            flags=(
                Flag("completed", "also builds that ended before", "bool"),
                Flag("ref", "only this build"),
            ),
        ),
        Command(
            "logs",
            "display build logs",
            "buildkit_client.cli.debug_history:run_logs",
            flags=(
                Flag("progress", "how progress is shown: auto, plain, tty, rawjson, quiet", default="auto"),
                Flag("trace", "print the OpenTelemetry trace instead", "bool"),
            ),
        ),
        Command(
            "ctl",
            "control build records",
            "buildkit_client.cli.debug_history:run_ctl",
            flags=(
                Flag("pin", "Keep the build's record", "bool"),
                Flag("unpin", "Let the build's record be removed when it is old", "bool"),
                Flag("delete", "Remove the build's record", "bool"),
            ),
        ),
        Command("get", "retrieve a blob from the daemon's content store", "buildkit_client.cli.debug_history:run_get"),
        Command("histories", "list build records", "buildkit_client.cli.debug_history:run_histories", flags=(_FORMAT,)),
    ),
)

_DIAL_STDIO = Command(
    "dial-stdio",
    "connect standard input and output to the daemon; for other programs",
    "buildkit_client.cli.dial_stdio:run",
    is_hidden=True,
)

_COMPLETION = Command(
    "completion",
    "print what a shell sources to complete commands and flags",
    commands=(
        Command("bash", "print the completion script for bash", "buildkit_client.cli.completion:run_bash"),
        Command("zsh", "print the completion script for zsh", "buildkit_client.cli.completion:run_zsh"),
        Command("fish", "print the completion script for fish", "buildkit_client.cli.completion:run_fish"),
    ),
    is_hidden=True,
)


def command_tree(environ: Mapping[str, str]) -> Command:
    """The outermost command.

    Args:
        environ: ``BUILDKIT_HOST`` is the default address.
    """
    address = environ.get("BUILDKIT_HOST") or _DEFAULT_ADDRESS
    return Command(
        PROGRAM,
        "build utility",
        flags=(
            Flag("debug", "show where errors come from", "bool"),
            Flag("addr", "buildkitd address", default=address),
            Flag("log-format", "log formatter: json or text", default="text"),
            Flag("tlsservername", "name that the daemon's certificate must carry"),
            Flag("tlscacert", "CA certificates that may have signed the daemon's"),
            Flag("tlscert", "client certificate"),
            Flag("tlskey", "client key"),
            Flag(
                "tlsdir",
                "folder with CA certificate, client certificate and client key, "
                "named ca.pem, cert.pem, key.pem or ca.crt, tls.crt, tls.key",
            ),
            Flag("timeout", "seconds to wait for the daemon's first answer", "int", default=5),
            Flag("wait", "wait until the daemon can be reached", "bool"),
        ),
        commands=(_DISK_USAGE, _PRUNE, _PRUNE_HISTORIES, _BUILD, _DEBUG, _DIAL_STDIO, _COMPLETION),
    )
