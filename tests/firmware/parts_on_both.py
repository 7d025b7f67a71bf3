"""The list of parts: what is fitted, and that nothing in the file stops a head. On both interpreters."""

import json
import os

import checking

from firmware.frames import SENSORS
from firmware.parts import FILE, PARTS, STANDARD, Fit, chosen, fitted, standard

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
    assert [name for name, _ in standard()] == list(STANDARD) and FILE == "parts.json"
    assert [SENSORS[PARTS[name][0]] for name in STANDARD] == list(STANDARD)


def check_a_list_chooses_spares_and_addresses():
    assert _file(b'[{"part": "pms5003"}, {"part": "opt3001", "address": 71}, {"part": "as7331"}]') == (
        [("pms5003", 0), ("opt3001", 0x47), ("as7331", 0x74)],
        "",
    )
    everything = [{"part": name} for name in PARTS if name not in ("sps30_i2c", "pms5003")]
    fit, error = chosen(everything)
    assert error == "" and len(fit) == len(everything)


def check_every_part_has_its_driver_with_that_address_first():
    for name in PARTS:
        number, kind, wire, address, _ = PARTS[name]
        module = __import__("drivers." + name, None, None, (kind,))
        assert getattr(module, kind).SENSOR == SENSORS[number] == module.SENSOR
        assert (wire[0] == "I") == hasattr(module, "ADDRESSES")
        if wire[0] == "I":
            assert module.ADDRESSES[0] == address
    assert {PARTS[name][0] for name in PARTS} == set(SENSORS)


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
        (b'[{"part": "bmp390"}, {"part": "bmp390", "address": 118}]', "both are bmp390"),
        (b'[{"part": "sps30"}, {"part": "sps30_i2c"}]', "both are sps30"),
        (b'[{"part": "sps30"}, {"part": "pms5003"}]', "one UART1 for both"),
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
    with open(SCRATCH, "w") as file:
        json.dump([{"part": "sht45"}], file)
    fit = Fit(SCRATCH)
    assert list(fit.kinds) == ["sht45"] and fit.error == "" and fit.parts == [("sht45", 0x44)]
    PARTS["ghost"] = (9, "GHOST", "UART0", 0, 9600)
    try:
        with open(SCRATCH, "w") as file:
            json.dump([{"part": "ghost"}], file)
        fit = Fit(SCRATCH)
    finally:
        del PARTS["ghost"]
        os.remove(SCRATCH)
    assert fit.error == "a driver is missing" and fit.parts == standard() and set(fit.kinds) == set(STANDARD)


if __name__ == "__main__":
    checking.run(globals())
