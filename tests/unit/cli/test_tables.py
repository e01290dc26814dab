"""Tables and templates as Go prints them."""

from __future__ import annotations

import pytest

from buildkit_client.cli.debug import normal_platform, worker_blocks, worker_table
from buildkit_client.cli.go_values import Record, go_time
from buildkit_client.cli.tabwriter import tabulate
from buildkit_client.cli.template import Template
from buildkit_client.cli.usage import summary_lines, table_lines, verbose_lines
from buildkit_client.errors import OptionError
from buildkit_client.records import DaemonInfo, GcPolicy, UsageRecord, Worker


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["a\tb", "long cell here\tc"], "a\t\tb\nlong cell here\tc\n"),
        (["ab\tc"], "ab\tc\n"),
        (["1234567\tc", "1\tc"], "1234567\tc\n1\tc\n"),
        (["12345678\tc", "1\tc"], "12345678\tc\n1\t\tc\n"),
        (["é\tb", "1234567\tc"], "é\tb\n1234567\tc\n"),
        (["no cells", "x\ty"], "no cells\nx\ty\n"),
        (["", "\tkey:\tv", "\tlonger key:\tw"], "\n\tkey:\t\tv\n\tlonger key:\tw\n"),
        (["a\tb\tc", "x\t", "a\tbbbbbbbbbb\tc"], "a\tb\tc\nx\t\na\tbbbbbbbbbb\tc\n"),
    ],
)
def test_columns_are_padded_with_tabs(lines: list[str], text: str) -> None:
    assert tabulate(lines) == text


def test_columns_can_be_padded_with_spaces() -> None:
    lines = ["BuildKit:\tx", "Dockerfile:\ty"]
    assert tabulate(lines, min_width=0, tab_width=0, pad_char=" ") == "BuildKit:   x\nDockerfile: y\n"


RECORDS = [
    UsageRecord(id="a" * 25, size_bytes=4096, is_mutable=True, created_at_ns=1_735_787_045_060_000_000, usage_count=2),
    UsageRecord(
        id="b" * 25,
        size_bytes=1_000_000,
        is_shared=True,
        is_in_use=True,
        parents=("p", "q"),
        description="what it is",
        record_type="regular",
        last_used_at_ns=1_735_787_046_000_000_000,
    ),
]


def test_the_table_of_disk_usage() -> None:
    assert tabulate(table_lines(RECORDS)).splitlines() == [
        "ID" + "\t" * 9 + "RECLAIMABLE\tSIZE\tLAST ACCESSED",
        f"{'a' * 25}*{' ' * 45}\ttrue       \t4.10kB\t",
        f"{'b' * 25}{' ' * 46}\tfalse      \t1.00MB*\t",
    ]


def test_the_sums_below_it() -> None:
    assert summary_lines(RECORDS) == ["Shared:\t1.00MB", "Private:\t4.10kB", "Reclaimable:\t4.10kB", "Total:\t1.00MB"]
    assert summary_lines(RECORDS[:1]) == ["Reclaimable:\t4.10kB", "Total:\t4.10kB"]


def test_everything_about_a_record() -> None:
    assert verbose_lines(RECORDS[1:]) == [
        f"ID:\t{'b' * 25}",
        "Parents:\tp;q",
        "Created at:\t1970-01-01 00:00:00 +0000 UTC",
        "Mutable:\tfalse",
        "Reclaimable:\tfalse",
        "Shared:\ttrue",
        "Size:\t1.00MB",
        "Description:\twhat it is",
        "Usage count:\t0",
        "Last used:\t2025-01-02 03:04:06 +0000 UTC",
        "Type:\tregular",
        "",
    ]


def test_moments_as_go_prints_them() -> None:
    assert go_time(1_735_787_045_060_000_000) == "2025-01-02 03:04:05.06 +0000 UTC"


@pytest.mark.parametrize(
    ("platform", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_platforms_are_shown_short(platform: str, normal: str) -> None:
    assert normal_platform(platform) == normal


WORKER = Worker(
    id="w",
    labels={"b": "2", "a": "1"},
    platforms=("linux/amd64", "linux/arm64/v8"),
    gc_policies=(
        GcPolicy(all=True, filters=("x", "y"), keep_duration_ns=172_800_000_000_000, max_used_bytes=1_500_000),
    ),
    buildkit=DaemonInfo("pkg", "v1", "rev", "1.2"),
)


def test_workers() -> None:
    assert worker_table([WORKER]) == ["ID\tPLATFORMS", "w\tlinux/amd64,linux/arm64"]
    assert worker_blocks([WORKER]) == [
        "ID:\tw",
        "Platforms:\tlinux/amd64,linux/arm64",
        "BuildKit:\tpkg v1 rev",
        "Dockerfile:\t1.2",
        "Labels:",
        "\ta:\t1",
        "\tb:\t2",
        "GC Policy rule#0:",
        "\tAll:\ttrue",
        "\tFilters:\tx y",
        "\tKeep duration:\t48h0m0s",
        "\tMaximum used space:\t1.5MB",
        "",
    ]


INNER = Record((("Name", "name", "é"), ("Gone", "", "hidden"), ("Tags", "tags", ["x", "y"])))
OUTER = [Record((("ID", "id", "a"), ("OK", "ok", True), ("Inner", "inner", INNER), ("None", "none", None)))]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("json", '[{"id":"a","ok":true,"inner":{"name":"é","tags":["x","y"]},"none":null}]'),
        ("{{json .}}", '[{"id":"a","ok":true,"inner":{"name":"é","tags":["x","y"]},"none":null}]'),
        ('{{range .}}{{.ID}}={{.OK}}{{"\\n"}}{{end}}', "a=true\n"),
        ("{{range .}}{{range .Inner.Tags}}<{{.}}>{{end}};{{end}}", "<x><y>;"),
        ("{{ range . }} {{- .Inner.Tags -}} {{ end }}", "[x y]"),
        ("{{range .}}{{.None}} {{json .Inner.Name}}{{end}}", '<nil> "é"'),
        ("text", "text"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert "".join(Template(template).lines(OUTER)) == text + "\n"


@pytest.mark.parametrize(
    "template",
    ["{{.ID}}", "{{range .}}{{.Nope}}{{end}}", "{{range .}}", "{{end}}", "{{printf .}}", "{{range .}}{{.ID.X}}{{end}}"],
)
def test_templates_that_cannot_be_filled_in(template: str) -> None:
    with pytest.raises(OptionError, match="template"):
        list(Template(template).lines(OUTER))
