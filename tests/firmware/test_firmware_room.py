"""The room as a whole: compiles for the head, fits into its heap, imports only what is there."""

import ast
import itertools
import json
import os
import subprocess
from pathlib import Path

import both_interpreters as both
import pytest

from firmware import frames, parts
from sim.compiled import compiled

FILES = sorted((both.REPO / "firmware").glob("*.py"))
MICROPYTHON_HAS = {"array", "asyncio", "binascii", "gc", "hashlib", "json", "machine", "micropython", "os", "select", "struct", "sys"}
MICROPYTHON_HAS.add("time")
SPARE_BYTES = 16_000  # of 192 kB, on a 64-bit host where objects take twice the RP2040's room
LONGEST_SPARE_BYTES = 10_000  # with the longest lists of parts; running takes less than 1 kB of it
LONGEST = [
    ("icm20948", "bmp390", "sht45", light, "as7331", particles, "neo_m9n")
    for light in ("opt3001", "veml7700")
    for particles in ("sps30", "sps30_i2c", "pms5003")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_compiles_with_mpy_cross(file: Path, tmp_path: Path) -> None:
    both.compiles(file, tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_imports_drivers_and_what_micropython_has(file: Path) -> None:
    tree = ast.parse(file.read_text())
    guarded = {id(inner) for node in tree.body if isinstance(node, ast.If) for inner in ast.walk(node)}  # if TYPE_CHECKING
    assert both.imported(node for node in ast.walk(tree) if id(node) not in guarded) <= MICROPYTHON_HAS | {"drivers", "firmware"}


MACHINE = """
import sys
class machine:
    PWRON_RESET = 1
    WDT_RESET = 3
    feeds = 0
    class Pin:
        OUT = 1
        def __init__(self, *a, **k): pass
    class I2C:
        def __init__(self, *a, **k): pass
        def readfrom_mem_into(self, *a): raise OSError(5)
        writeto_mem = readfrom_into = writeto = readfrom_mem_into
    class UART:
        def __init__(self, *a, **k): pass
        def any(self): return 0
        def write(self, data): return len(data)
    class WDT:
        def __init__(self, timeout): machine.timeout = timeout
        def feed(self): machine.feeds += 1
    @staticmethod
    def reset_cause(): return 1
    @staticmethod
    def unique_id(): return bytes(8)
    @staticmethod
    def reset(): raise SystemExit
sys.modules["machine"] = machine
"""

FITS = """
import gc
import firmware.main
head = firmware.main.put_together(machine)
gc.collect()
print(gc.mem_free(), len(head.hello()))
"""

TELLS = """
print([[watched.sensor for watched in group] for group in head._groups])
print(head.hello().decode())
out = bytearray(256)
print(out[: head._ring.take_next(out)].hex())
"""

WATCHED = """
import asyncio
import firmware.main
head = firmware.main.put_together(machine)
async def work(tasks, seconds):
    for _ in range(seconds * 20):
        for task in tasks:
            head._progress[task] = 1
        await asyncio.sleep_ms(50)
async def run():
    watch = asyncio.create_task(head._watch())
    await work((0, 1, 3), 1)
    hung = machine.feeds
    await work((0, 1, 2, 3), 1)
    watch.cancel()
    print(machine.timeout, hung, machine.feeds > 0)
asyncio.run(run())
"""

OVER = """
import asyncio
from array import array
words = array("I", [0, 0x2B << 24 | 5 << 1, 0, 0])
machine.mem_backup = lambda: words
import firmware.main
head = firmware.main.put_together(machine)
class Trial:
    def step(self, now): return -1
head._trial = Trial()
head._sensors.clear()
try:
    asyncio.run(head._watch())
except SystemExit:
    print(words[0], words[2] >> 24, words[2] & 0x7FFFFF)
"""

BROKEN = """
import gc
import firmware.main
gc.threshold(4096)
from firmware import link
def broken(self, now): raise ValueError("broken link")
link.Link.turn = broken
from array import array
words = array("I", 4 * [0])
machine.mem_backup = lambda: words
try:
    firmware.main.run()
except SystemExit:
    print("marker", words[2] >> 24, words[2] & 0x7FFFFF)
    raise
print("still here")
"""


@pytest.mark.timeout(60)
def test_the_whole_head_fits_into_192_kb_with_room_to_work() -> None:
    result = both.micropython("-c", MACHINE + FITS)
    spare, hello = map(int, result.stdout.split())
    assert spare > SPARE_BYTES and hello <= frames.PAYLOAD_MAX, result.stdout + result.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize("names", LONGEST, ids=lambda names: f"{names[3]}-{names[5]}")
def test_the_longest_lists_of_parts_fit_into_192_kb_as_they_are_flashed(tmp_path: Path, names: tuple[str, ...]) -> None:
    """As bytecode. A list that does not fit would reset the head for ever."""
    (tmp_path / "parts.json").write_text(json.dumps([{"part": name} for name in names]))
    result = subprocess.run(
        [str(both.BIN / "micropython"), "-X", f"heapsize={both.HEAP}", "-c", MACHINE + FITS + TELLS],
        cwd=tmp_path,
        env={**os.environ, "MICROPYPATH": f"{compiled(both.REPO)}:.frozen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result.stdout + result.stderr
    spare, hello = map(int, lines[0].split())
    assert spare > LONGEST_SPARE_BYTES and hello <= frames.PAYLOAD_MAX
    assert sum(map(len, ast.literal_eval(lines[1]))) == 7 and "parts_error" not in lines[2]


def test_the_longest_lists_are_all_there_are() -> None:
    places: dict[str, set[str]] = {}
    for name in parts.PARTS:
        places.setdefault(parts.PLACES.get(name, name), set()).add(name)
    assert {frozenset(fit) for fit in itertools.product(*places.values())} == {frozenset(names) for names in LONGEST}
    assert all(parts.chosen([{"part": name} for name in names])[1] == "" for names in LONGEST)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("listed", "sensors", "words"),
    [
        ('[{"part": "pms5003"}, {"part": "veml7700"}, {"part": "icm20948"}]', "[[7, 1], [], [8]]", ""),
        ('[{"part": "icm20948"}, {"part": "sps30_i2c"}]', "[[1, 6], [], []]", ""),
        ('[{"part": "sps30"}, {"part": "pms5003"}]', "[[1, 2, 3, 4], [5], [6]]", "sps30 and pms5003: one place"),
        ('[{"part": "opt3001", "address": 68}, {"part": "sht45"}]', "[[1, 2, 3, 4], [5], [6]]", "opt3001 and sht45 clash"),
        ("no JSON", "[[1, 2, 3, 4], [5], [6]]", "not JSON"),
    ],
)
def test_the_head_runs_what_the_list_of_parts_says_or_the_standard_fit_and_tells(
    tmp_path: Path, listed: str, sensors: str, words: str
) -> None:
    (tmp_path / "parts.json").write_text(listed)
    result = both.micropython("-c", f"import os; os.chdir({str(tmp_path)!r})\n" + MACHINE + FITS + TELLS)
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result.stdout + result.stderr
    assert int(lines[0].split()[1]) <= frames.PAYLOAD_MAX and lines[1] == sensors
    assert words in json.loads(lines[2]).get("parts_error", "") and bool(words) == ("parts_error" in lines[2])
    said = frames.Decoder().feed(bytes.fromhex(lines[3]))  # here, for the head has no room for the decoder
    assert [(frame.type, *frame.payload[:3]) for frame in said] == ([(frames.STATE, 0, 3, 15)] if words else [])


HELLO = """
import firmware.main
head = firmware.main.put_together(machine)
ring = head._ring
for sequence, slot, start, error in CASES:
    ring.oldest = ring.newest = sequence
    ring.used = 1
    head.slot = slot.split()[0] if slot else ""
    head._trial = 1 if "trial" in slot else None
    head.start = start
    head._parts_error = error
    print(head.hello().decode())
"""
LONG_ERROR = "opt3001 and veml7700: one place for both (light)"
CASES = [
    (1_000_000, "a", (3, "trial over"), ""),
    (999_999_999, "a on trial", (65_535, "fan running"), ""),  # "linux" is 2 longer than the board's "rp2"
    (4_294_967_295, "a on trial", (8_388_607, "maintenance"), ""),
    (4_294_967_295, "a on trial", (8_388_607, "maintenance"), LONG_ERROR),
    (1_000, "", (2, "error"), "not JSON"),
    (1_000, "a", (0, ""), ""),
]


@pytest.mark.timeout(60)
def test_hello_fits_with_the_longest_values_and_leaves_out_what_does_not() -> None:
    names = MACHINE.replace("def reset_cause(): return 1", "def reset_cause(): return 3")
    result = both.micropython("-c", f"{names}\nCASES = {CASES!r}\n{HELLO}")
    lines = result.stdout.splitlines()
    assert len(lines) == len(CASES), result.stdout + result.stderr
    assert max(map(len, lines)) <= frames.PAYLOAD_MAX
    usual, longest, longer, with_error, short_error, without = map(json.loads, lines)
    assert (usual["boot_count"], usual["marker"], usual["slot"]) == (3, "trial over", "a")
    assert (longest["boot_count"], longest["marker"], longest["slot"]) == (65_535, "fan running", "a on trial")
    assert longer["boot_count"] == 8_388_607 and "marker" not in longer
    assert LONG_ERROR.startswith(with_error["parts_error"]) and len(with_error["parts_error"]) >= 20
    assert (short_error["boot_count"], short_error["marker"], short_error["parts_error"]) == (2, "error", "not JSON")
    assert not {"boot_count", "marker"} & set(without)


@pytest.mark.timeout(60)
def test_the_watchdog_is_fed_only_when_every_task_came_round() -> None:
    result = both.micropython("-c", MACHINE + WATCHED)
    assert result.stdout.split() == ["8000", "0", "True"], result.stdout + result.stderr


@pytest.mark.timeout(60)
def test_a_version_whose_trial_is_over_resets_with_its_marker_and_not_into_maintenance() -> None:
    result = both.micropython("-c", MACHINE + OVER)
    assert result.stdout.split() == ["0", "3", "5"], result.stdout + result.stderr


@pytest.mark.timeout(60)
def test_a_head_that_loses_a_task_says_why_and_resets() -> None:
    result = both.micropython("-c", MACHINE + BROKEN)
    assert "ValueError: broken link" in result.stdout and "still here" not in result.stdout, result.stdout + result.stderr
    assert "marker 4 1" in result.stdout, result.stdout + result.stderr
