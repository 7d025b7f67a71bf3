"""Several units at once: a process for each, so that no hung port can hold up the others or the technician.

Each has a time limit after which it is killed: mpremote, and a close of a USB serial whose device has stopped reading, can wait where no
deadline of ours reaches. Passports are written here, by the parent, from what a process that ended well reported: a process that was
killed or died has proved nothing.

A unit that fails stops no other."""

import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet import label
from fleet.flash_unit import Plan, Proof, UnitError, run
from fleet.passport import Folder, PassportError

LIMIT_S = 240.0  # a unit; one takes 20 to 90 s
AT_ONCE = 8  # more than a laptop's USB serves well
_TURN_S = 0.2
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


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
    context = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(["fleet.flash_unit"])
    outcomes: dict[str, Outcome] = {}
    waiting = list(plans)
    working: list[_Worker] = []
    try:
        while waiting or working:
            while waiting and len(working) < at_once:
                working.append(_Worker(context, waiting.pop(0), limit_s))
            multiprocessing.connection.wait([worker.pipe for worker in working], _TURN_S)
            for worker in working:
                worker.look(told)
            for worker in [worker for worker in working if worker.outcome is not None]:
                working.remove(worker)
                worker.end()
                assert worker.outcome is not None
                outcomes[worker.plan.port] = worker.outcome
    finally:
        for worker in working:
            worker.end()
    return [outcomes[plan.port] for plan in plans]


class _Worker:
    def __init__(self, context: multiprocessing.context.BaseContext, plan: Plan, limit_s: float) -> None:
        self.plan = plan
        self.outcome: Outcome | None = None
        self.pipe, theirs = context.Pipe(duplex=False)
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._process = context.Process(target=_work, args=(plan, theirs), daemon=True)  # type: ignore[attr-defined]  # typeshed lacks it
        self._process.start()
        theirs.close()

    def look(self, told: Told) -> None:
        """Takes what the process said; `outcome` is set when it has ended, or its time has."""
        try:
            while self.outcome is None and self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, Proof):
                    self.outcome = _kept(self.plan, said)
                elif len(said) == 2:
                    told(self.plan.port, *said)
                else:
                    self.outcome = Outcome(self.plan.port, said[0])
        except EOFError:
            self.outcome = Outcome(self.plan.port, "the process of this unit died")
        if self.outcome is None and time.monotonic() > self._until:
            self.outcome = Outcome(self.plan.port, f"not done within {self._limit_s:.0f} s")

    def end(self) -> None:
        """The process is gone after this."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.pipe.close()


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


def _work(plan: Plan, pipe: multiprocessing.connection.Connection) -> None:
    """The process of one unit: (stage, part) again and again, at last a Proof or (error,)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        pipe.send(run(plan, lambda stage, part: pipe.send((stage, part))))
    except (UnitError, PassportError) as error:
        pipe.send((str(error),))
    except OSError as error:
        pipe.send((f"{error.strerror}: {error.filename}",))
