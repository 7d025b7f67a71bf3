"""Units to flash, and small programs to flash them with (tests/support/flash_program)."""

import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from fleet import flash_build
from fleet.flash_unit import Plan
from gateway.head_image import Image
from sim.unit import Unit

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).resolve().parent / "flash_program" / "main.py"
PARTS = [{"part": part} for part in ("icm20948", "sht45", "opt3001")]  # what the small program says it has
AnyUnit = TypeVar("AnyUnit", bound=Unit)
_MODULES = ("drivers/__init__", "drivers/portable", "firmware/__init__", "firmware/wire", "firmware/main")


@functools.cache
def board_files() -> dict[str, bytes]:
    """The real ones."""
    return flash_build.board_files()


@functools.cache
def program(version: str, *changes: tuple[str, str]) -> Image:
    """The small program, compiled, with some of its text changed."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for module in _MODULES:
            target = root / f"{module}.py"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / f"{module}.py", target)
        text = PROGRAM.read_text()
        for old, new in (('VERSION = "1.0.0"', f'VERSION = "{version}"'), *changes):
            assert old in text, old
            text = text.replace(old, new)
        (root / "firmware/main.py").write_text(text)
        return Image(version, flash_build._compiled(root, list(_MODULES)))


def plan(unit: Unit, folder: Path, version: str | None = "1.0.0", truck: str = "truck-001") -> Plan:
    """The small program onto `unit`; version None: roll back."""
    return Plan(str(unit.link), truck, program(version) if version else None, board_files(), folder, PARTS)


@contextmanager
def units(folder: Path, count: int, kind: type[AnyUnit] = Unit) -> Iterator[list[AnyUnit]]:  # type: ignore[assignment]
    """So many units without chips, blank but for MicroPython."""
    with ExitStack() as stack:
        made: list[AnyUnit] = []
        for number in range(count):
            unit = kind(folder / f"unit{number}", bytes((0xE6, 0x61, 0x4C, 0x31, 0x1B, 0x7D, 0x4F, number)), fit=())
            stack.callback(unit.stop)
            made.append(unit)
        for unit in made:
            unit.wait_plugged()
        yield made
