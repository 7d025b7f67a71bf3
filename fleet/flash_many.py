"""Several units at once: a process for each (gateway/head_process.py), so that no hung port can hold up the others or the technician.

Passports are written here, by the parent, from what a process that ended well reported: a process that was killed or died has proved
nothing.

A unit that fails stops no other."""

import multiprocessing.connection
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fleet import label
from fleet.flash_unit import Plan, Proof, UnitError, run
from fleet.passport import Folder, PassportError
from gateway.head_process import LIMIT_S, TURN_S, Session

AT_ONCE = 8  # more than a laptop's USB serves well
_ERRORS = (UnitError, PassportError, OSError)


@dataclass(frozen=True)
class Outcome:
    """What became of one unit. `error` is "" when it was proved; `passport` None when there was nothing new to write."""

    port: str
    error: str
    proof: Proof | None = None
    passport: Path | None = None


Told = Callable[[str, str, float], None]  # port, what is being done, part of it done


def flash(plans: Sequence[Plan], told: Told, limit_s: float = LIMIT_S, at_once: int = AT_ONCE) -> list[Outcome]:
    """All of `plans`, in their order. On Ctrl-C the processes are ended and KeyboardInterrupt goes on: a second run completes."""
    outcomes: dict[str, Outcome] = {}
    waiting = list(plans)
    working: dict[str, tuple[Plan, Session[Plan, Proof]]] = {}
    try:
        while waiting or working:
            while waiting and len(working) < at_once:
                plan = waiting.pop(0)
                working[plan.port] = plan, Session(run, plan, _ERRORS, limit_s)
            multiprocessing.connection.wait([session.pipe for _, session in working.values()], TURN_S)
            for port, (plan, session) in list(working.items()):
                session.look(partial(told, port))
                if session.ended:
                    del working[port]
                    session.end()
                    outcomes[port] = _outcome(plan, session)
    finally:
        for _, session in working.values():
            session.end()
    return [outcomes[plan.port] for plan in plans]


def _outcome(plan: Plan, session: Session[Plan, Proof]) -> Outcome:
    error = session.error
    if session.result is not None:
        return _kept(plan, session.result)
    return Outcome(plan.port, f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error))


def _kept(plan: Plan, proof: Proof) -> Outcome:
    """Writes passport and label, unless they say the same already."""
    folder = Folder(plan.folder)
    passport = proof.passport
    picture = folder.label(passport.unit)
    if proof.known and picture.exists():
        return Outcome(plan.port, "", proof)
    try:
        path = folder.keep(passport)
        picture.write_bytes(label.png(passport.unit, passport.truck, passport.version, path))
    except OSError as error:
        return Outcome(plan.port, f"proved, but its passport could not be written: {error}")
    return Outcome(plan.port, "", proof, path)
