"""10**4 cases of each kind; the long form is `make fuzz` (10**6)."""

from collections import Counter

import fuzz
import pytest

CASES = 10_000


@pytest.mark.parametrize("kind", ["image", "stream"])
def test_nothing_escapes_and_no_implausible_value_is_a_number(kind: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(CASES):
        fuzz.run_one(kind, seed, seen)
    assert seen["samples"] > CASES / 10 and seen["numbers"] > CASES / 10 and seen["refused"] > CASES / 10
