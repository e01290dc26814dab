"""What ``convox help`` lists. Written by scripts/gen_docs.py from the commands; do not edit."""

COMMANDS: tuple[tuple[str, str], ...] = (
    (
        "convox apps",
        "list apps",
    ),
    (
        "convox apps create",
        "create an app",
    ),
    (
        "convox apps delete",
        "delete an app",
    ),
    (
        "convox apps info",
        "get information about an app",
    ),
    (
        "convox apps params",
        "display app parameters",
    ),
    (
        "convox apps params set",
        "set app parameters",
    ),
    (
        "convox apps params unset",
        "unset app parameters",
    ),
    (
        "convox build",
        "create a build",
    ),
    (
        "convox builder start",
        "start the local builder",
    ),
    (
        "convox builder status",
        "get information about the local builder",
    ),
    (
        "convox builder stop",
        "stop the local builder",
    ),
    (
        "convox builds",
        "list builds",
    ),
    (
        "convox builds cancel",
        "cancel a running build",
    ),
    (
        "convox builds diff",
        "show the differences between two builds",
    ),
    (
        "convox builds export",
        "export a build",
    ),
    (
        "convox builds import",
        "import a build",
    ),
    (
        "convox builds import-image",
        "import a prebuilt container image into a new build",
    ),
    (
        "convox builds info",
        "get information about a build",
    ),
    (
        "convox builds logs",
        "get logs for a build",
    ),
    (
        "convox builds rm",
        "remove builds",
    ),
    (
        "convox completion",
        "print a script that completes convox commands in bash, zsh or fish",
    ),
    (
        "convox env",
        "list env vars",
    ),
    (
        "convox env edit",
        "edit env interactively",
    ),
    (
        "convox env get",
        "get an env var",
    ),
    (
        "convox env set",
        "set env var(s)",
    ),
    (
        "convox env unset",
        "unset env var(s)",
    ),
    (
        "convox help",
        "list commands",
    ),
    (
        "convox rack",
        "get information about the rack",
    ),
    (
        "convox rack install",
        "install a new rack",
    ),
    (
        "convox rack params",
        "display rack parameters",
    ),
    (
        "convox rack params set",
        "set rack parameters",
    ),
    (
        "convox rack pull-secret",
        "print the Docker Hub login as a Kubernetes secret",
    ),
    (
        "convox rack uninstall",
        "uninstall a rack",
    ),
    (
        "convox racks",
        "list available racks",
    ),
    (
        "convox registries",
        "list private registries",
    ),
    (
        "convox registries add",
        "add a private registry",
    ),
    (
        "convox registries check",
        "try the logins of registries",
    ),
    (
        "convox registries remove",
        "remove private registry",
    ),
    (
        "convox releases",
        "list releases for an app",
    ),
    (
        "convox releases create-from",
        "create a new release using the build from one release and the environment from another for an app",
    ),
    (
        "convox releases info",
        "get information about a release",
    ),
    (
        "convox releases manifest",
        "get manifest for a release",
    ),
    (
        "convox releases promote",
        "promote a release",
    ),
    (
        "convox releases rollback",
        "copy an old release forward and promote it",
    ),
    (
        "convox switch",
        "switch current rack",
    ),
    (
        "convox version",
        "display version information",
    ),
)
"""Every command with what it does, sorted."""
