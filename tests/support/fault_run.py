"""One run of one part through one fault, or several: what came of it."""

from collections.abc import Sequence
from typing import NamedTuple

from fault_rig import STEP_US, Rig
from parts import Part

from firmware.frames import DEGRADED, OK, REASONS, STATES
from sim.faults import Fault, Strike

RECOVERED_S = 2.0  # the bar of issue 3
# Whose state is only degraded while nothing comes: the heater's rests after its pulse, the PMS5003's listens before it asks again.
RESTING = ("sht45-heater", "pms5003")
STRIKES_WITHIN_S = 70.0  # of its begin: a fault aimed at a byte, or at one transfer of a chip that rests


class Outcome(NamedTuple):
    """`recovery_s` is from the fault's end to "ok" with a sample that the chip made after it; None: never. `oldest_s`: of the values
    delivered; `first`: it was struck before its first sample; `off`: by how many samples the count is off the periods that passed;
    `undetectable`: wrong values where no protocol can notice them."""

    problems: list[str]
    recovery_s: float | None
    undetectable: int
    delivered: int
    reported: int
    oldest_s: float
    first: bool
    off: float
    states: list[str]


def run(
    part: Part,
    faults: Sequence[Fault],
    seed: int = 0,
    *,
    visible: bool = False,
    wrong: bool = False,
    own_s: float = 0.0,
    first_s: float = 0.0,
    stall_s: tuple[float, float] = (0.0, 0.0),
    settle_s: float = 2.6,
) -> Outcome:
    """`part` from its start through `faults` until it is well again, and `settle_s` longer. `visible`: nothing comes meanwhile, and the
    state just before the end must say so. `wrong`: the faults flip data bits. `own_s`: what the part's own start takes beyond the bar,
    where one is due; `first_s`: the same where the fault struck before the first sample.
    `stall_s`: when the head does not poll, and for how long."""
    rig = Rig(part, faults, seed)
    rig.allow_wrong = wrong
    strikes = rig.faults.strikes
    own = max(own_s, first_s)
    timed = [strike for strike in strikes if strike.end_us is not None]
    last_end = max((strike.end_us or 0 for strike in timed), default=0)
    begin, length = stall_s
    if length:
        rig.advance(begin)
        rig.stall(length)

    def over() -> bool:
        return all(_over(strike, rig.now_us) for strike in strikes)

    if timed and visible:
        rig.advance((last_end - STEP_US - rig.now_us) / 1e6)
        if rig.watched.state == OK or (rig.watched.state == DEGRADED and part.name not in RESTING):
            rig.problem(f"{STATES[rig.watched.state]} at the end of a fault that keeps everything away")
    latest = max((last_end, *(strike.begin_us for strike in strikes))) / 1e6 + STRIKES_WITHIN_S
    rig.advance(latest - rig.now_us / 1e6, over)
    first = not rig.samples
    if not over():
        rig.problem("the fault never struck")
        return _outcome(rig, None, first)
    end_us = max((_end_us(strike) for strike in strikes), default=round((begin + length) * 1e6))
    allowed = RECOVERED_S + (own if first else own_s)
    rig.advance(allowed + 2.5, lambda: rig.well() and rig.converted_us > end_us)
    recovery = (rig.now_us - end_us) / 1e6
    if not (rig.well() and rig.converted_us > end_us):
        rig.problem(f"not well {recovery:.1f} s after the fault ({STATES[rig.watched.state]}, {REASONS[rig.watched.reason]})")
        return _outcome(rig, None, first)
    if recovery > allowed + STEP_US / 1e6:
        rig.problem(f"well only after {recovery:.2f} s")
    rig.advance(settle_s)
    if not rig.well() and part.name != "sht45-heater":  # whose next pulse may come
        rig.problem(f"{STATES[rig.watched.state]} again after it was well")
    rig.check_gaps()
    return _outcome(rig, recovery, first)


def _over(strike: Strike, now_us: int) -> bool:
    fault = strike.fault
    if fault.kind == "brown_out":
        return strike.hits > 0
    if fault.times is not None and strike.hits >= fault.times:
        return True
    return strike.end_us is not None and now_us >= strike.end_us


def _end_us(strike: Strike) -> int:
    if strike.fault.times is not None or strike.fault.kind == "brown_out" or strike.end_us is None:
        return strike.last_us or 0
    return strike.end_us


def _outcome(rig: Rig, recovery: float | None, first: bool) -> Outcome:
    off = 0.0
    if rig.driver.PERIOD_MS and len(rig.samples) > 1:
        passed, counted = rig.count()
        off = counted - passed
    return Outcome(
        rig.problems,
        recovery,
        rig.undetectable,
        rig.delivered,
        sum(count for _, _, count in rig.gaps),
        rig.oldest_us / 1e6,
        first,
        off,
        rig.story(),
    )
