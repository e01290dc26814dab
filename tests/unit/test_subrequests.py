"""Answers of sub-requests as values."""

import base64
import json

import pytest

from buildkit_client.errors import RemoteProtocolError, SourceSnippet
from buildkit_client.subrequests import LintError, LintResult, LintWarning, Outline, Subrequest, Target, Targets

DOCKERFILE = b"from scratch AS One\nMAINTAINER x\n"
SOURCE = {"filename": "Dockerfile", "language": "Dockerfile", "data": base64.b64encode(DOCKERFILE).decode()}


def answer(document, **more):
    return {"result.json": json.dumps(document).encode(), "version": b"1.0.0", "result.txt": b"for people\n", **more}


def location(first, last, index=0):
    found = {"ranges": [{"start": {"line": first}, "end": {"line": last, "character": 7}}]}
    return found if index == 0 else {**found, "sourceIndex": index}


def test_what_checking_found():
    warning = {
        "ruleName": "StageNameCasing",
        "description": "Stage names should be lowercase",
        "url": "https://example.com/rule",
        "detail": "Stage name 'One' should be lowercase",
        "location": location(1, 1),
    }
    whole = {"ruleName": "Whole", "detail": "everything", "location": {"sourceIndex": -1}}
    metadata = answer({"warnings": [warning, whole], "sources": [SOURCE]}, **{"result.statuscode": b"1"})
    result = LintResult.from_metadata(metadata)
    assert result.warnings == (
        LintWarning(
            "StageNameCasing",
            "Stage names should be lowercase",
            "Stage name 'One' should be lowercase",
            "https://example.com/rule",
            SourceSnippet("Dockerfile", DOCKERFILE, ((1, 1),), "Dockerfile"),
        ),
        LintWarning("Whole", "", "everything"),
    )
    assert (result.status_code, result.version, result.text) == (1, "1.0.0", "for people\n")
    assert not result.is_clean


def test_a_dockerfile_without_fault():
    result = LintResult.from_metadata(answer({"warnings": None, "sources": None}))
    assert result.is_clean
    assert result.status_code == 0


def test_a_dockerfile_that_cannot_be_read():
    failure = {"message": "unknown instruction: FORM", "location": location(2, 3)}
    result = LintResult.from_metadata(answer({"warnings": [], "sources": [SOURCE], "buildError": failure}))
    snippet = SourceSnippet("Dockerfile", DOCKERFILE, ((2, 3),), "Dockerfile")
    assert result.error == LintError("unknown instruction: FORM", snippet)
    assert (result.is_clean, result.status_code) == (False, 1)


def test_what_a_target_takes():
    outline = Outline.from_metadata(
        answer(
            {
                "name": "prod",
                "description": "the app",
                "args": [{"name": "VERSION", "value": "1", "description": "of it", "location": location(1, 2)}],
                "secrets": [{"name": "token", "required": True}],
                "ssh": [{"name": "default"}],
                "cache": [{"ID": "/root/.cache"}],
            }
        )
    )
    assert (outline.name, outline.description, outline.text) == ("prod", "the app", "for people\n")
    (arg,) = outline.args
    assert (arg.name, arg.value, arg.description, arg.lines) == ("VERSION", "1", "of it", (1, 2))
    assert [(one.name, one.is_required) for one in outline.secrets] == [("token", True)]
    assert [(one.name, one.is_required, one.lines) for one in outline.ssh] == [("default", False, None)]
    assert [one.id for one in outline.cache_mounts] == ["/root/.cache"]
    assert Outline.from_metadata(answer({})).args == ()


def test_which_targets_there_are():
    targets = Targets.from_metadata(
        answer({"targets": [{"name": "base", "base": "scratch", "platform": "linux/amd64"}, {"default": True}]})
    )
    assert targets.targets == (
        Target("base", base="scratch", platform="linux/amd64"),
        Target("", is_default=True),
    )


def test_which_subrequests_there_are():
    document = [{"name": "frontend.lint", "version": "1.0.0", "type": "rpc", "description": "Lint", "opts": None}]
    assert Subrequest.list_from_metadata(answer(document)) == (Subrequest("frontend.lint", "1.0.0", "Lint"),)


@pytest.mark.parametrize("read", [LintResult.from_metadata, Outline.from_metadata, Targets.from_metadata])
@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000])
def test_what_is_no_answer_is_refused(read, data):
    with pytest.raises(RemoteProtocolError):
        read({} if data is None else {"result.json": data})


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (LintResult.from_metadata, {"warnings": {}}),
        (LintResult.from_metadata, {"warnings": [1]}),
        (LintResult.from_metadata, {"warnings": [{"ruleName": 1}]}),
        (LintResult.from_metadata, {"warnings": [{"location": {"sourceIndex": 3}}], "sources": [SOURCE]}),
        (LintResult.from_metadata, {"warnings": [{"location": {"sourceIndex": "0"}}], "sources": [SOURCE]}),
        (LintResult.from_metadata, {"warnings": [{"location": {"ranges": [5]}}], "sources": [SOURCE]}),
        (Outline.from_metadata, {"args": [{"name": []}]}),
        (Targets.from_metadata, {"targets": "all"}),
        (Subrequest.list_from_metadata, {}),
    ],
)
def test_a_damaged_answer_is_refused(read, document):
    with pytest.raises(RemoteProtocolError):
        read(answer(document))


def test_a_status_that_is_no_number_is_refused():
    with pytest.raises(RemoteProtocolError, match="lint"):
        LintResult.from_metadata(answer({}, **{"result.statuscode": b"one"}))
