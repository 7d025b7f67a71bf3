"""TOML as we write it is what tomllib reads."""

import tomllib
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.provision_toml import to_toml

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
TABLE = st.recursive(
    st.dictionaries(TEXT, PLAIN | st.lists(PLAIN, max_size=3), max_size=4),
    lambda inner: st.dictionaries(TEXT, PLAIN | inner | st.lists(inner, min_size=1, max_size=3), max_size=4),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(TABLE)
def test_what_is_written_is_what_is_read(table):
    assert tomllib.loads(to_toml(table)) == table


@pytest.mark.parametrize("value", [date(2026, 1, 1), float("inf"), None, [1, {"a": 1}]])
def test_what_has_no_place_in_a_configuration_is_refused(value):
    with pytest.raises(ValueError, match="cannot stand"):
        to_toml({"a": value})
