"""The list of parts: what is fitted, and that nothing in the file stops a head. On both interpreters."""

import gc
import json
import os
import sys

import checking

from firmware.parts import FILE, OPTIONS, PARTS, PLACES, STANDARD, chosen, fitted, load, standard
from firmware.wire import SENSORS

SCRATCH = "/tmp/cruisers-parts-" + "".join(f"{byte:02x}" for byte in os.urandom(6))


def _file(content):
    with open(SCRATCH, "wb") as file:
        file.write(content)
    try:
        return fitted(SCRATCH)
    finally:
        os.remove(SCRATCH)


def check_without_a_file_the_standard_fit_is_there():
    assert fitted("no-such-file.json") == (standard(), "")
    assert [name for name, _, _ in standard()] == list(STANDARD) and FILE == "parts.json"
    assert [SENSORS[PARTS[name][0]] for name in STANDARD] == list(STANDARD)


def check_a_list_chooses_spares_and_addresses():
    assert _file(b'[{"part": "pms5003"}, {"part": "opt3001", "address": 71}, {"part": "as7331"}]') == (
        [("pms5003", 0, {}), ("opt3001", 0x47, {}), ("as7331", 0x74, {})],
        "",
    )


def check_a_list_chooses_what_a_driver_can_do_otherwise():
    assert _file(
        b'[{"part": "icm20948", "options": {"acceleration_g": 16, "rate_dps": 2000}}, {"part": "sht45", "options": {"heater": true}}]'
    ) == (
        [("icm20948", 0x68, {"acceleration_g": 16, "rate_dps": 2000}), ("sht45", 0x44, {"heater": True})],
        "",
    )
    for name in OPTIONS:  # each driver takes each value, and no other part has any
        kind = PARTS[name][1]
        module = __import__("drivers." + name, None, None, (kind,))
        for option in OPTIONS[name]:
            for value in OPTIONS[name][option]:
                getattr(module, kind)(None, PARTS[name][3], **{option: value})
        _forget_on_the_head("drivers." + name)


def check_a_place_is_taken_by_one_part_so_the_longest_list_has_seven():
    places = [PLACES.get(name, name) for name in PARTS]
    longest = [places.index(place) for place in set(places)]
    fit, error = chosen([{"part": list(PARTS)[index]} for index in longest])
    assert error == "" and len(fit) == 7
    for name in PARTS:
        for other in PARTS:
            fit, error = chosen([{"part": name}, {"part": other}])
            shared = PLACES.get(name, name) == PLACES.get(other, other)
            assert bool(error) == shared and (not shared or error.startswith(name + " and " + other)), (name, other, error)
    for wire in ("UART0", "UART1"):  # so nothing can be two on one line
        assert len({PLACES.get(name, name) for name in PARTS if PARTS[name][2] == wire}) == 1


def check_every_part_has_its_driver_with_that_address_first():
    for name in PARTS:
        number, kind, wire, address, _ = PARTS[name]
        module = __import__("drivers." + name, None, None, (kind,))
        assert getattr(module, kind).SENSOR == SENSORS[number] == module.SENSOR
        assert (wire[0] == "I") == hasattr(module, "ADDRESSES")
        if wire[0] == "I":
            assert module.ADDRESSES[0] == address
        _forget_on_the_head("drivers." + name)
    assert {PARTS[name][0] for name in PARTS} == set(SENSORS)


def _forget_on_the_head(name):
    """There is no room there for the source of all drivers at once."""
    if sys.implementation.name == "micropython":
        del sys.modules[name]
        delattr(sys.modules["drivers"], name.split(".")[1])
        gc.collect()


def check_a_bad_list_is_refused_with_a_reason_and_the_standard_fit_runs():
    for content, words in (
        (b"", "not JSON"),
        (b"[{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 900, "not JSON"),
        (b" " * 2000 + b"[]", "longer"),
        (b"[]", "not a list"),
        (b"null", "not a list"),
        (b'{"part": "bmp390"}', "not a list"),
        (b"[7]", "no part"),
        (b"[{}]", "no part"),
        (b'[{"part": 7}]', "unknown part"),
        (b'[{"part": ["bmp390"]}]', "unknown part"),
        (b'[{"part": "../evil"}]', "unknown part"),
        (b'[{"part": "bmp390"}, {"part": "bmp280"}]', "entry 2: unknown part"),
        (b'[{"part": "bmp390", "adress": 118}]', "unknown key"),
        (b'[{"part": "bmp390", "address": 118, "bus": 1}]', "unknown key"),
        (b'[{"part": "bmp390", "address": "0x76"}]', "no such address"),
        (b'[{"part": "bmp390", "address": true}]', "no such address"),
        (b'[{"part": "bmp390", "address": 118.0}]', "no such address"),
        (b'[{"part": "pms5003", "address": 18}]', "no such address"),
        (b'[{"part": "bmp390", "address": 99}]', "bmp390"),
        (b'[{"part": "icm20948", "options": {"acceleration_g": 3}}]', "entry 1: no such option"),
        (b'[{"part": "icm20948", "options": {"acceleration_g": 8.0}}]', "no such option"),
        (b'[{"part": "icm20948", "options": [16]}]', "no such option"),
        (b'[{"part": "opt3001", "options": {"heater": true}}]', "no such option"),
        (b'[{"part": "bmp390"}, {"part": "bmp390", "address": 118}]', "bmp390 and bmp390: one place for both"),
        (b'[{"part": "sps30"}, {"part": "sps30_i2c"}]', "sps30 and sps30_i2c: one place for both (particles)"),
        (b'[{"part": "sps30"}, {"part": "pms5003"}]', "sps30 and pms5003: one place for both (particles)"),
        (b'[{"part": "veml7700"}, {"part": "sht45"}, {"part": "opt3001"}]', "veml7700 and opt3001: one place for both (light)"),
    ):
        fit, error = _file(content)
        assert fit == standard() and words in error, (content, error)
    fit, error = _file(b'[{"part": "sht45"}, {"part": "opt3001", "address": 68}]')
    assert fit == standard() and "sht45" in error and "opt3001" in error
    fit, error = _file(b'[{"part": "icm20948", "address": 105}, {"part": "sps30_i2c"}]')
    assert fit == standard() and "icm20948" in error and "sps30" in error


def check_a_folder_in_the_files_place_is_refused():
    os.mkdir(SCRATCH)
    try:
        fit, error = fitted(SCRATCH)
    finally:
        os.rmdir(SCRATCH)
    assert fit == standard() and "cannot be read" in error


def check_only_what_is_fitted_is_imported_and_a_missing_driver_means_the_standard_fit():
    gc.collect()
    with open(SCRATCH, "w") as file:
        json.dump([{"part": "sht45"}], file)
    rows, error = load(SCRATCH)
    assert [(row[0], row[1].__name__) + row[2:] for row in rows] == [(3, "SHT45", "I2C0", 0x44, 400_000, {})] and error == ""
    PARTS["ghost"] = (9, "GHOST", "UART0", 0, 9600)
    try:
        with open(SCRATCH, "w") as file:
            json.dump([{"part": "ghost"}], file)
        rows, error = load(SCRATCH)
    finally:
        del PARTS["ghost"]
        os.remove(SCRATCH)
    assert error == "a driver is missing" and [row[0] for row in rows] == [1, 2, 3, 4, 5, 6]


if __name__ == "__main__":
    checking.run(globals())
