"""The smallest build without a Dockerfile: run a command on an image, keep one file of what it made.

BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock python examples/llb_hello.py [IMAGE [FOLDER]]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from buildkit_client import Client, llb
from buildkit_client.options import LocalExporter


def main(image: str = "docker.io/library/alpine:3.20", folder: str = "hello-out") -> None:
    made = llb.image(image).run(shell="echo hello from $(uname -m) > /greeting").root()
    result = llb.scratch().file(llb.copy(made, "/greeting", "/greeting"))
    with Client(os.environ["BUILDKIT_HOST"]) as client:
        client.solve(result.marshal(), exporters=[LocalExporter(dest=Path(folder))])
    print((Path(folder) / "greeting").read_text(), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
