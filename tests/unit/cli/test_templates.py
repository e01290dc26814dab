"""Go's templates: what the reference's own types give is compared in the integration tests, the rest here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit_client._proto import control_pb2
from buildkit_client.cli.go_messages import go_message, go_name, message_text
from buildkit_client.cli.go_values import Named, Nil, Record, TemplateError, go_json, go_quote, go_unquote
from buildkit_client.cli.template import Template

PEOPLE = [
    Record((("Name", "name", "Ann"), ("Age", "age", 40), ("Tags", "tags", {"b": "2", "a": "1"})), "*x.Person"),
    Record((("Name", "name", "Bö"), ("Age", "age", 7), ("Tags", "tags", Nil("map[string]string"))), "*x.Person"),
]


def fill(form: str, value: object = PEOPLE) -> str:
    return "".join(Template(form).lines(value)).removesuffix("\n")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{range $i, $p := .}}{{if $i}}, {{end}}{{$p.Name}}{{end}}", "Ann, Bö"),
        ("{{range .}}{{if gt .Age 18}}{{.Name}}{{else if eq .Age 7}}seven{{else}}no{{end}}{{end}}", "Annseven"),
        ('{{range .}}{{printf "%-5s|%3d|%q;" .Name .Age .Name}}{{end}}', 'Ann  | 40|"Ann";Bö   |  7|"Bö";'),
        ("{{len .}} {{(index . 1).Name}} {{len (index . 1).Name}} {{with index . 0}}{{.Tags.a}}{{end}}", "2 Bö 3 1"),
        ("{{range (index . 0).Tags}}{{.}}{{end}}{{range $k, $v := (index . 0).Tags}}{{$k}}{{$v}}{{end}}", "12a1b2"),
        ("{{range (index . 1).Tags}}x{{else}}none{{end}} {{(index . 1).Tags}}", "none map[]"),
        ("{{(index . 1).Tags.x}} {{(index . 0).Tags.x}}", "<no value> <no value>"),
        ('{{index (index . 1).Tags "x"}}|{{index (index . 0).Tags "x"}}|', "||"),
        ("{{range .}}{{continue}}{{.Name}}{{end}}{{range .}}{{.Name}}{{break}}{{end}}", "Ann"),
        ("{{json (index . 1)}}", '{"name":"Bö","age":7,"tags":null}'),
        ('{{define "p"}}{{.Name}}{{if $}}!{{end}}{{end}}{{range .}}{{template "p" .}}{{end}}', "Ann!Bö!"),
        ("{{with $x := len .}}{{$x}}{{end}} {{- /* gone */ -}} !", "2!"),
        ('{{"a" | printf "%s-%s" "b"}} {{print 1 "x" 2 3}} {{slice "abcd" 1 3}}', "b-a 1x2 3 bc"),
        ("{{and 1 0}} {{or 0 2}} {{not 0}} {{and 1 2 3}} {{or 0 `x`}}", "0 2 true 3 x"),
        ("{{(index . 0)}}", "{Ann 40 map[a:1 b:2]}"),
    ],
)  # fmt: skip
def test_what_templates_give(form: str, text: str) -> None:
    assert fill(form) == text


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ("{{.Name}}", ":1:2: executing \"\" at <.Name>: can't evaluate field Name in type []*x.Person"),
        ("a\n{{range .}}{{.No}}{{end}}", ":2:13: executing \"\" at <.No>: can't evaluate field No in type *x.Person"),
        ("é{{index . 5}}", ':1:4: executing "" at <index . 5>: error calling index: index out of range: 5'),
        ("{{nope 1}}", ':1: function "nope" not defined'),
        ("\n\n{{if}}", ":3: missing value for if"),
        ("{{range .}}", ":1: unexpected EOF"),
        ("{{len", ":1: unclosed action"),
    ],
)  # fmt: skip
def test_errors_name_the_place(form: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        fill(form)
    assert str(caught.value) == f"template: {error}"


def test_what_comes_before_an_error_comes_out() -> None:
    out: list[str] = []
    with pytest.raises(TemplateError):
        out.extend(Template("{{range .}}{{.Name}}{{.Nope}}{{end}}").lines(PEOPLE))
    assert out == ["Ann"]


def test_a_template_that_includes_itself_ends() -> None:
    with pytest.raises(TemplateError, match="exceeded maximum template depth"):
        fill('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}')


def test_values_with_a_text_of_their_own() -> None:
    value = Named(172_800_000_000_000, "48h0m0s", "time.Duration")
    assert fill('{{.}} {{json .}} {{gt . 5}} {{printf "%d|%s|%T" . . .}}', value) == (
        "48h0m0s 172800000000000 true 172800000000000|48h0m0s|time.Duration"
    )


@given(st.text())
def test_any_text_is_a_template_or_refused(form: str) -> None:
    try:
        fill(form)
    except TemplateError as exc:
        assert str(exc).startswith("template: ")


TOKENS = (
    *("{{", "}}", "- ", " -", ".", "$x", ":=", "|", "(", ")", "if ", "else", "end", "range ", "1", '"a"', ".Name"),
    *(" ", ",", "=", "len", "printf", "nil", "template", "define", "with ", "break", "`", "/*", "*/"),
)


@given(st.lists(st.sampled_from(TOKENS)))
def test_any_tokens_are_a_template_or_refused(words: list[str]) -> None:
    try:
        fill("{{" + "".join(words) + "}}{{end}}")
    except TemplateError as exc:
        assert str(exc).startswith("template: ")


@given(st.text())
def test_quoting_is_undone_by_unquoting(text: str) -> None:
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    quoted = go_quote(text)
    assert quoted.isprintable()
    assert go_unquote(quoted) == text


def test_quoting() -> None:
    assert go_quote(b'a"\\\n\x01\x7f\xff\xc3\xa9\xe2\x80\xa8') == '"a\\"\\\\\\n\\x01\\x7f\\xffé\\u2028"'


def test_json_as_go_writes_it() -> None:
    value = {"b": "<&>\u2028\x7f", "a": [None, 1.5, True, "\udcff"]}
    assert go_json(value) == '{"a":[null,1.5,true,"\\ufffd"],"b":"<&>\\u2028\x7f"}'
    assert go_json("<&>", escapes_html=True) == '"\\u003c\\u0026\\u003e"'


def test_messages() -> None:
    message = control_pb2.BuildHistoryEvent(type=1)
    message.record.Ref = 'a"\n\x01é'
    message.record.FrontendAttrs.update({"b": "2", "a": "1"})
    message.record.CreatedAt.FromNanoseconds(1_500_000_000)
    assert message_text(message) == (
        'type:COMPLETE record:{Ref:"a\\"\\n\\x01é" FrontendAttrs:{key:"a" value:"1"} FrontendAttrs:{key:"b" value:"2"} '
        "CreatedAt:{seconds:1 nanos:500000000}}"
    )
    record = go_message(message)
    assert fill("{{json .}}", record) == (
        '{"type":1,"record":{"Ref":"a\\"\\n\\u0001é","FrontendAttrs":{"a":"1","b":"2"},'
        '"CreatedAt":{"seconds":1,"nanos":500000000}}}'
    )
    assert fill("{{.Type}} {{.Record.GetPinned}} {{.Record.CreatedAt.AsTime}} {{.Record.Error}}", record) == (
        "COMPLETE false 1970-01-01 00:00:01.5 +0000 UTC <nil>"
    )
    with pytest.raises(TemplateError, match=r"nil pointer evaluating \*status.Status.Code"):
        fill("{{.Record.Error.Code}}", record)


@pytest.mark.parametrize(
    ("name", "go"), [("media_type", "MediaType"), ("numCachedSteps", "NumCachedSteps"), ("ID", "ID"), ("a1b", "A1B")]
)
def test_names_of_fields(name: str, go: str) -> None:
    assert go_name(name) == go
