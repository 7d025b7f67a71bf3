"""10**4 cases of each kind; the long form is `make fuzz` (10**6)."""

from collections import Counter
from typing import Any

import fuzz
import pytest

from drivers import opt3001

CASES = 10_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["image", "stream"])
def test_nothing_escapes_and_no_implausible_value_is_a_number(kind: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(CASES):
        fuzz.run_one(kind, seed, seen)
    for part in fuzz.parts_of(kind):
        deep = {what: seen[f"{part.name} {what}"] for what in fuzz.COUNTED}
        assert all(count > CASES / 100 for count in deep.values()), f"no driver was met in all its states: {part.name} {deep}"


# --- that the fuzzer can say no


def escapes(kind: str, part: str) -> str:
    """What is said of the first case that escapes, "" if none of some hundred does."""
    names = [entry.name for entry in fuzz.parts_of(kind)]
    for seed in range(names.index(part), 100 * len(names), len(names)):
        try:
            fuzz.run_one(kind, seed, Counter())
        except fuzz.Escaped as error:
            return str(error)
    return ""


def test_an_exception_that_escapes_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert escapes("image", "opt3001") == ""
    whole = opt3001.OPT3001.read_into

    def spoilt(driver: Any, buf: Any, offset: int = 0) -> int:
        if driver._raw[1] > 250:
            raise IndexError("a byte too far")
        return whole(driver, buf, offset)

    monkeypatch.setattr(opt3001.OPT3001, "read_into", spoilt)
    said = escapes("image", "opt3001")
    assert "a byte too far" in said
    kind, seed = said.split()[:2]
    with pytest.raises(fuzz.Escaped, match="a byte too far"):
        fuzz.run_one(kind, int(seed), Counter())


def test_a_number_beyond_its_range_and_a_made_up_reason_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    good = opt3001.decode
    for wrong in (1e6, float("nan"), float("inf"), -1.0, "broken"):
        monkeypatch.setattr(opt3001, "decode", lambda trim, raw, wrong=wrong: good(trim, raw) | {"illuminance": wrong})
        assert f"illuminance {'has the reason ' if wrong == 'broken' else '= '}{wrong!r}" in escapes("image", "opt3001")
