"""In short what `make flash-long` does at length: bytes damaged in a session over the raw REPL. Whole runs: test_fleet_flash_unit.py."""

from collections.abc import Iterator

import pytest
from flash_cases import clean, session
from flash_rig import plan, units
from flash_watch import Watched

from fleet.flash_unit import run
from gateway import head_reach, head_repl
from gateway.head_reach import HeadError
from gateway.head_repl import LineError
from sim.unit import Trouble

PLACES = 4  # each way: what is damaged there is found out at once, or when the host has waited for CALL_S


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("long")
    with units(folder, 1, Watched) as (made,):
        run(plan(made, folder / "passports"))
        yield made


def test_one_flipped_byte_in_a_session_is_an_error(unit: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    clean(unit)
    unit.arm(Trouble())
    session(unit, "1.0.0")
    ends = list(unit.moved)
    monkeypatch.setattr(head_repl, "CALL_S", 1.0)
    monkeypatch.setattr(head_repl, "LONG_CALL_S", 2.0)
    for way, name in enumerate(("to_unit", "to_host")):
        for number in range(PLACES):
            unit.arm(Trouble(**{name: ends[way] // 3 + number * ends[way] // 7}, flip=1 << number))
            with pytest.raises((LineError, HeadError)):
                session(unit, "1.0.0")
            assert unit.hit is not None


def test_a_head_that_was_not_reached_because_of_a_damaged_byte_is_reached_by_the_next_try(unit: Watched) -> None:
    unit.arm(Trouble())
    head_reach.reach(str(unit.link)).close()
    end = unit.moved[0]
    unit.arm(Trouble(to_unit=end - 20))
    head_reach.reach(str(unit.link)).close()
    assert unit.hit is not None
