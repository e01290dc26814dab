"""A build in stages, as a Dockerfile for a small web page would do it, with a cache that stays on the builder.

One stage packs the pages of a local folder; it keeps what it packed before in a cache mount. Another writes the
configuration. Both run side by side, and the result has only what they made.

    BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock python examples/llb_app.py PAGES [IMAGE [FOLDER]]
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from buildkit_client import Client, llb
from buildkit_client.options import LocalExporter
from buildkit_client.progress import PlainProgress

RELEASED = datetime(2024, 1, 1, tzinfo=UTC)

PACK = """
for page in *.html; do
    sum=$(md5sum < "$page" | cut -d ' ' -f 1)
    [ -e "/cache/$sum" ] || { echo "packing $page"; gzip -9 -n -c "$page" > "/cache/$sum"; }
    cp "/cache/$sum" "/packed/$page.gz"
done
"""


def app(image: str) -> llb.State:
    """Return the graph of the whole build."""
    base = llb.image(image).add_env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    pages = llb.local("pages", include_patterns=["*.html"], shared_key_hint="llb-app")
    packed = (
        base.dir("/pages")
        .run(
            shell=PACK,
            mounts=[
                llb.Mount("/pages", pages, readonly=True),
                llb.Mount("/packed", llb.scratch()),
                llb.CacheMount("/cache", "llb-app-packed", sharing="locked"),
            ],
            custom_name="pack the pages",
        )
        .get_mount("/packed")
    )
    config = base.run(shell="echo root=/site > /etc/site.conf", custom_name="write the configuration").root()
    return llb.scratch().file(
        llb.mkdir("/etc", created_time=RELEASED)
        .copy(config, "/etc/site.conf", "/etc/", created_time=RELEASED)
        .copy(packed, "/", "/site", copy_dir_contents_only=True, create_dest_path=True, created_time=RELEASED)
        .mkfile("/VERSION", "1.0\n", created_time=RELEASED),
        custom_name="put it together",
    )


def main(pages: str, image: str = "docker.io/library/alpine:3.20", folder: str = "app-out") -> None:
    progress = PlainProgress(lambda text: print(text, end="", file=sys.stderr))
    with Client(os.environ["BUILDKIT_HOST"]) as client:
        client.solve(
            app(image).marshal(),
            local_dirs={"pages": pages},
            exporters=[LocalExporter(dest=Path(folder))],
            on_status=progress.update,
        )
    progress.finish()
    for path in sorted(Path(folder).rglob("*")):
        print(path.relative_to(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
