"""One case of the long forms of the flash tests: a flipped bit, a pulled plug, a power cut, and what must come of it."""

import contextlib
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flash_rig import plan, program
from flash_watch import Watched, why_harmless

from fleet.flash_unit import Proof, UnitError, run
from gateway import head_install, head_prove, head_reach
from gateway.head_reach import HeadError
from gateway.head_repl import LineError, Repl
from sim.unit import Trouble

WAYS = ("to the unit", "to the host")
BAD = "WRONG"
SEED = 1


@dataclass(frozen=True)
class Case:
    """One place: in which kind of run, on which way, which byte (or command), which bit, or what happens there."""

    kind: str
    way: int
    at: int
    bit: int = 0
    event: str = ""


# --- flips in whole runs

_versions = iter(range(1000, 10_000))  # of one length: a byte of a run is at the same place in each
KINDS = ("update", "first installation", "way back", "repeated run")


def wanted_run(unit: Watched, folder: Path, kind: str) -> Any:
    """The plan of such a run, when the unit is as it must be before it."""
    unit.arm(Trouble())
    if kind == "first installation":
        unit.blank()
        unit.wait_plugged()
        return plan(unit, folder, "1.0.0")
    now = f"2.{next(_versions)}.0"
    proof = run(plan(unit, folder, now))
    if kind == "way back":
        return plan(unit, folder, None)
    return plan(unit, folder, proof.passport.version if kind == "repeated run" else f"2.{next(_versions)}.0")


def flipped(unit: Watched, folder: Path, case: Case) -> str:
    """One damaged bit in a whole run: refused and the next run completes, or proved and harmless for a proved reason."""
    wanted = wanted_run(unit, folder, case.kind)
    unit.arm(Trouble(**{("to_unit", "to_host")[case.way]: case.at}, flip=1 << case.bit))
    try:
        proof = run(wanted)
    except UnitError:
        unit.arm(Trouble())
        with contextlib.suppress(UnitError):  # a way back that did happen would be undone by a second one
            run(wanted if wanted.image is not None else plan(unit, folder, f"2.{next(_versions)}.0"))
        proof = run(replace(wanted, image=program(f"2.{next(_versions)}.0")))
        return "refused; the next run completes" if proof.written else f"{BAD}: refused, and the next run does not complete"
    why = why_harmless(unit)
    unit.arm(Trouble())
    return why if _true(unit, folder, proof) else f"{BAD}: a passport for what is not so"


def _true(unit: Watched, folder: Path, proof: Proof) -> bool:
    """Whether a run over a line that damages nothing finds the same."""
    truth = run(plan(unit, folder, proof.passport.version))
    return not truth.written and replace(proof.passport, time="", time_source="") == replace(truth.passport, time="", time_source="")


# --- flips in one session

_FILE = bytes(random.Random(SEED).randbytes(1000))  # two commands


def session(unit: Watched, version: str) -> tuple[Any, ...]:
    """What a repeated run does over the raw REPL, without its resets, and the transfer of a file: all that it found out."""
    wanted = plan(unit, Path(), version)
    line = Repl(wanted.port)
    try:
        line.call(head_reach._BOARD)
        who = head_reach.identify(line)
        flash = head_install.Flash(line)
        key = line.read("unit.key", 32)
        assert wanted.image is not None
        slot, tried = head_install.install(flash, wanted.image, key, signed=True, downgrade=False, report=lambda stage, part: None)
        flash.expected.update({path: digest for path, (_, digest) in flash.present.items() if path[:2] not in ("a/", "b/")})
        intent = head_prove.Intent(who[0], slot, tried, {path: d for path, d in flash.expected.items() if path[:7] != "switch."}, None)
        proved = head_prove._prove(line, intent)
        line.write("transfer.new.bin", _FILE)
        line.remove("transfer.new.bin")
        return who, flash.present, flash.written, key, slot, tried, proved
    finally:
        line.close()


def session_flipped(unit: Watched, folder: Path, case: Case) -> str:
    """One damaged bit in such a session: an error, or what was found out is true and it is proved why."""
    unit.arm(Trouble())
    truth = clean(unit)
    unit.arm(Trouble(**{("to_unit", "to_host")[case.way]: case.at}, flip=1 << case.bit))
    try:
        found = session(unit, "1.0.0")
    except (LineError, HeadError):
        unit.arm(Trouble())
        _tidy(unit)
        return "refused"
    return why_harmless(unit) if found == truth else f"{BAD}: believed what is not so"


def _tidy(unit: Watched) -> None:
    """Takes away what a session that was broken off left of its file."""
    line = head_reach.reach(str(unit.link))
    line.call("for name in os.listdir():\n if name.startswith('transfer'):\n  os.remove(name)")
    line.close()


_truths: dict[int, tuple[Any, ...]] = {}


def clean(unit: Watched) -> tuple[Any, ...]:
    """The truth about a unit, in its raw REPL; what the last session left is removed."""
    if id(unit) not in _truths:
        with head_reach.maintenance(str(unit.link)):
            pass
        with head_reach.on_duty(str(unit.link), unit._unique_id.hex()):
            pass
        head_reach.reach(str(unit.link)).close()
        _truths[id(unit)] = session(unit, "1.0.0")
    return _truths[id(unit)]


# --- the plug and the power, at every command

EVENTS = tuple(f"{what} in {where}" for what in ("unplugged", "power cut") for where in ("a command", "its answer"))


class AtCommand:
    """Arms a unit's trouble when its `number`th command goes out."""

    def __init__(self, unit: Watched, number: int, event: str) -> None:
        self.unit, self.number, self.event, self.count = unit, number, event, 0

    def told(self, size: int) -> None:
        """A command of about so many bytes is about to be sent."""
        if self.count == self.number:
            at = size // 2 if self.event.endswith("a command") else size + 12  # raw paste: 3 bytes there, 4 back, one for each 128
            at += 0 if self.event.endswith("a command") else size // 64
            self.unit.arm(Trouble(**{"unplug" if self.event.startswith("unplugged") else "cut": at}))
        self.count += 1


commands: dict[str, AtCommand] = {}  # by port


def count_commands() -> None:
    """From here on each command is told to what stands in `commands` for its port."""
    call = Repl.call
    if hasattr(call, "counted"):
        return

    def counted(line: Repl, code: str, limit_s: float | None = None) -> Any:
        at = commands.get(line._transport.device_name)
        if at is not None:
            at.told(len(repr(code)) + 18)
        return call(line, code, limit_s)

    counted.counted = True  # type: ignore[attr-defined]
    Repl.call = counted  # type: ignore[method-assign]


def cut(unit: Watched, folder: Path, case: Case) -> str:
    """The plug or the power, at one command of a run; the same run again completes, and so does a third that has nothing to do."""
    count_commands()
    wanted = wanted_run(unit, folder, case.kind)
    unit.arm(Trouble())
    commands[wanted.port] = AtCommand(unit, case.at, case.event)
    try:
        run(wanted)
        said = "proved"
    except UnitError:
        said = "ended"
    happened = unit.trouble.unplug < 0 and unit.trouble.cut < 0 and commands.pop(wanted.port).count > case.at
    unit.arm(Trouble())
    unit.power_on() if case.event.startswith("power") else unit.replug()
    proof = [run(wanted) for _ in range(2)][1]
    if proof.written or proof.passport.version != wanted.image.version:
        return f"{BAD}: a second run does not complete"
    return f"{said}; a second run completes" if happened else "behind the end"
