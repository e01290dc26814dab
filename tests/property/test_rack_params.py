"""Parameters survive being stored, and no secret is shown whatever it is."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from convox.errors import RackError, UsageError
from convox.rack import create_rack, get_rack, update_params
from convox.rack_params import BY_NAME, PARAMS, view_params
from convox.rack_values import check_params, parse_params

NAMES = st.sampled_from([param.name for param in PARAMS]) | st.text(min_size=1, max_size=6).filter(
    lambda name: "=" not in name
)
VALUES = st.text(max_size=12)
MASKED = sorted(param.name for param in PARAMS if param.is_masked)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.dictionaries(NAMES, VALUES, max_size=5))
def test_params_are_stored_as_given(first: dict[str, str], second: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder)
        rack = create_rack(config, "mine", first)
        update_params(rack, second)
        assert get_rack(config, "mine").params == {name: value for name, value in (first | second).items() if value}


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_arguments_are_split_at_the_first_equals_sign(params: dict[str, str]) -> None:
    assert parse_params([f"{name}={value}" for name, value in params.items()]) == params


@given(st.sampled_from(MASKED), st.text("☃✂✈", min_size=3, max_size=20), st.booleans())
def test_no_secret_is_in_a_message_a_view_or_a_repr(name: str, secret: str, is_forced: bool) -> None:
    values = {name: f"{secret}\n{secret}"}
    try:
        said = repr(check_params(values, {}, cwd=Path("/"), is_forced=is_forced))
    except (RackError, UsageError) as exc:
        said = f"{exc} {exc!r} {exc.why} {exc.hint}"
    assert secret not in said
    assert secret not in repr(view_params({name: secret}))


@given(NAMES, VALUES, st.booleans())
def test_what_was_accepted_is_accepted_again(name: str, value: str, is_forced: bool) -> None:
    with contextlib.suppress(RackError):
        checked = check_params({name: value}, {}, cwd=Path("/"), is_forced=is_forced).values
        if checked[name]:
            assert check_params(checked, {}, cwd=Path("/elsewhere"), is_forced=is_forced).values == checked
        else:
            assert name not in BY_NAME or BY_NAME[name].is_clearable
