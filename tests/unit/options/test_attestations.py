"""Attestations as the wire has them."""

import pytest

from buildkit_client.errors import OptionError
from buildkit_client.options import Provenance, Sbom
from buildkit_client.options.attestations import attestation_attrs


def test_the_mode_is_always_said():
    assert Provenance().to_value() == "mode=min"
    assert Provenance(mode="max").to_value() == "mode=max"


def test_every_parameter_of_provenance():
    value = Provenance(
        mode="max",
        version="v0.2",
        builder_id="https://ci/1",
        filename="p.json",
        reproducible=True,
        inline_only=True,
        capture_usage=True,
        complete_materials=True,
    ).to_value()
    assert value == (
        "mode=max,version=v0.2,builder-id=https://ci/1,filename=p.json,"
        "reproducible=true,inline-only=true,capture-usage=true,complete-materials=true"
    )


def test_values_with_commas_and_quotes_are_quoted():
    assert Provenance(builder_id='a,"b"').to_value() == 'mode=min,"builder-id=a,""b"""'


def test_a_bill_of_materials():
    assert Sbom().to_value() == ""
    assert Sbom(generator="example.com/scan", params={"depth": "1"}).to_value() == "generator=example.com/scan,depth=1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Provenance(mode="full"),
        lambda: Provenance(version="v2"),
        lambda: Sbom(params={"generator": "x"}),
        lambda: Sbom(params={"": "x"}).to_value(),
        lambda: Sbom(params={"a=b": "x"}).to_value(),
        lambda: attestation_attrs([Provenance(), Provenance(mode="max")]),
    ],
)
def test_what_cannot_work_is_refused(make):
    with pytest.raises(OptionError):
        make()


def test_none_unless_asked_for():
    assert attestation_attrs([]) == {}
