"""Which addresses a part can have, and what two parts on one bus may not."""

import importlib

import both_interpreters as both
import pytest

from drivers.addresses import LEGAL, clash, illegal

# facts/sensors-and-head.md 1.0
FORBIDDEN = {
    ("opt3001", "sht45", 0x44),
    ("icm20948", "sps30", 0x69),
    ("as7331", "bmp390", 0x76),
    ("as7331", "bmp390", 0x77),
}


def rivals() -> set[tuple[str, str, int]]:
    """Every (part, other part, address) that two different parts could both be strapped to."""
    pairs = [(part, other) for part in LEGAL for other in LEGAL if part < other]
    return {(part, other, address) for part, other in pairs for address in LEGAL[part] if address in LEGAL[other]}


def test_the_list_of_the_facts_follows_from_what_each_part_can_be_strapped_to() -> None:
    # Beside the facts' list only what the SHT45's order variants add.
    assert rivals() - FORBIDDEN == {("opt3001", "sht45", 0x45), ("opt3001", "sht45", 0x46)}
    assert rivals() >= FORBIDDEN


@pytest.mark.parametrize(("one", "other", "address"), sorted(FORBIDDEN))
def test_a_clash_is_one_line_that_names_both_parts_the_bus_and_the_address(one: str, other: str, address: int) -> None:
    told = clash([("veml7700", 3, 0x10), (one, 3, address), (other, 3, address)])
    assert told == f"{one} and {other} clash on I2C bus 3: both at 0x{address:02x}"


def test_parts_on_two_buses_do_not_clash() -> None:
    assert clash([("opt3001", 0, 0x44), ("sht45", 1, 0x44)]) == ""


def test_the_default_addresses_do_not_clash_on_one_bus() -> None:
    assert clash([(part, 1, addresses[0]) for part, addresses in LEGAL.items()]) == ""


def test_two_of_one_part_clash_too() -> None:
    assert clash([("sps30", 1, 0x69), ("sps30", 1, 0x69)]) == "sps30 and sps30 clash on I2C bus 1: both at 0x69"


def test_an_address_a_part_cannot_have_is_refused_with_those_it_can() -> None:
    assert clash([("bmp390", 1, 0x78)]) == "bmp390 cannot sit at 0x78, only at 0x77, 0x76"
    assert illegal("pms5003", 0x12).startswith("pms5003 is not a part with an I2C address")


def test_the_addresses_are_those_of_the_drivers() -> None:
    for part, addresses in LEGAL.items():
        module = importlib.import_module("drivers.sps30_i2c" if part == "sps30" else f"drivers.{part}")
        assert addresses == module.ADDRESSES, part


def test_micropython_finds_the_same_clash() -> None:
    result = both.micropython("-c", "from drivers.addresses import clash; print(clash([('sht45', 0, 0x44), ('opt3001', 0, 0x44)]))")
    assert result.stdout == "sht45 and opt3001 clash on I2C bus 0: both at 0x44\n"
