"""Source policies: as values, as buildctl's files, as messages."""

import json

import pytest

from buildkit_client._proto import sourcepolicy_pb2 as pb
from buildkit_client.errors import OptionError
from buildkit_client.options import Constraint, SourcePolicy, SourceRule

FILE = """
{
  "version": 1,
  "rules": [
    {"action": "DENY", "selector": {"identifier": "*"}},
    {"action": "ALLOW", "selector": {"identifier": "docker-image://docker.io/library/alpine:3", "match_type": "EXACT"}},
    {"action": "CONVERT",
     "selector": {"identifier": "https://(.*)", "match_type": "REGEX",
                  "constraints": [{"key": "http.checksum", "value": "^sha256:", "condition": "MATCHES"}]},
     "updates": {"identifier": "https://mirror/${1}", "attrs": {"http.checksum": "sha256:0"}}}
  ]
}
"""
RULES = (
    SourceRule(action="deny", identifier="*"),
    SourceRule(action="allow", identifier="docker-image://docker.io/library/alpine:3", match="exact"),
    SourceRule(
        action="convert",
        identifier="https://(.*)",
        match="regex",
        constraints=(Constraint("http.checksum", "^sha256:", "matches"),),
        new_identifier="https://mirror/${1}",
        new_attrs={"http.checksum": "sha256:0"},
    ),
)


def test_a_file_as_buildctl_takes_it():
    assert SourcePolicy.from_json(FILE) == SourcePolicy(RULES)


def test_the_message():
    expected = pb.Policy(
        version=1,
        rules=[
            pb.Rule(action=pb.DENY, selector=pb.Selector(identifier="*")),
            pb.Rule(
                action=pb.ALLOW,
                selector=pb.Selector(identifier="docker-image://docker.io/library/alpine:3", match_type=pb.EXACT),
            ),
            pb.Rule(
                action=pb.CONVERT,
                selector=pb.Selector(
                    identifier="https://(.*)",
                    match_type=pb.REGEX,
                    constraints=[pb.AttrConstraint(key="http.checksum", value="^sha256:", condition=pb.MATCHES)],
                ),
                updates=pb.Update(identifier="https://mirror/${1}", attrs={"http.checksum": "sha256:0"}),
            ),
        ],
    )
    assert SourcePolicy(RULES).to_proto() == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"rules":[{"action":1,"selector":{"identifier":"a","matchType":"exact"}}]}',
        '{"Rules":[{"Action":"deny","Selector":{"Identifier":"a","match_type":1}}],"version":"1"}',
    ],
)
def test_spellings_that_mean_the_same(text):
    assert SourcePolicy.from_json(text) == SourcePolicy((SourceRule(action="deny", identifier="a", match="exact"),))


@pytest.mark.parametrize("text", ["{}", "null", '{"rules": null}', b'{"version": 1, "rules": []}'])
def test_no_rules(text):
    assert SourcePolicy.from_json(text) == SourcePolicy(())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no JSON object"),
        ('{"rules": {}}', "list"),
        ('{"rules": [1]}', "rule 1"),
        ('{"rule": []}', "did you mean rules?"),
        ('{"version": 2}', "version 2"),
        ('{"rules": [{"action": "DENY"}]}', "identifier"),
        ('{"rules": [{"action": "FORBID", "selector": {"identifier": "a"}}]}', "FORBID"),
        ('{"rules": [{"action": 7, "selector": {"identifier": "a"}}]}', "7"),
        ('{"rules": [{"action": "DENY", "selektor": {"identifier": "a"}}]}', "did you mean selector?"),
        ('{"rules": [{"action": "DENY", "selector": {"identifier": 5}}]}', "no text"),
        ('{"rules": [{"action": "CONVERT", "selector": {"identifier": "a"}}]}', "into what"),
        ('{"rules": [{"selector": {"identifier": "a"}, "updates": {"attrs": [1]}}]}', "attrs"),
        ('{"rules": [{"selector": {"identifier": "a", "constraints": [{"condition": "LIKE"}]}}]}', "LIKE"),
    ],
)
def test_what_is_no_policy_is_refused(text, said):
    with pytest.raises(OptionError) as caught:
        SourcePolicy.from_json(text)
    error = caught.value
    assert said in f"{error} {error.why} {error.hint}"


@pytest.mark.parametrize(
    "options",
    [
        {"action": "forbid", "identifier": "a"},
        {"action": "deny", "identifier": ""},
        {"action": "deny", "identifier": "a", "match": "glob"},
        {"action": "deny", "identifier": "a", "new_identifier": "b"},
        {"action": "convert", "identifier": "a"},
        {"action": "deny", "identifier": "a", "constraints": [Constraint("a", "b", "like")]},
    ],
)
def test_rules_that_cannot_work_are_refused(options):
    with pytest.raises(OptionError):
        SourceRule(**options)


def test_a_policy_can_be_read_back_from_protobufs_own_json():
    from google.protobuf.json_format import MessageToDict

    message = SourcePolicy(RULES).to_proto()
    for original_names in (True, False):
        text = json.dumps(MessageToDict(message, preserving_proto_field_name=original_names))
        assert SourcePolicy.from_json(text).to_proto() == message
