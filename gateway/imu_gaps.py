"""Which number each IMU sample has, and so exactly how many are missing.

Why it can be known. The head cannot count what it loses: its driver empties the FIFO (overflow, a count that is no multiple of a frame, a
read broken off), or the bus is out for seconds, or frames were dropped from its ring. But the chip samples on in the same phase all the
time. So the line of `SampleTicks` goes on through the gap, and the first drains behind it show which numbers their newest samples have.

Operation. Drains are numbered one after another while nothing is missing. When the head reports a gap, the drains behind it wait. With x
the time from where the newest sample of a drain would be, were none missing, to the drain's stamp, m missing samples give x in
[m, m + 1) intervals, less and more by what the line can be wrong by (`error_us`), and more by a stamp's lateness. The smallest x of the
drains bounds m from above; the drains that would be late with m - 1 bound it from below. One drain close to an interval's edge leaves two
numbers possible, several do not: ENOUGH are waited for at least.

Whether the chip went on. After a state in which the driver starts the chip again, and after lost frames (`Phase.TESTED`), the phase is
tested by ENOUGH_TO_TEST drains. If it does not fit, or the chip is known to have lost its supply (`Phase.ANEW`), or the gap was so long
that the line cannot tell numbers apart, the line begins anew, and the count is what would have been made, round((first new - last old) /
interval) - 1. That is exact to a sample only, and Gap's reason ends with "(±1)" (or more, after a long time).

Losses nobody reported. A drain whose samples do not fit to the line by a whole interval makes the drains wait, too. One late stamp is
told from a loss by the drains behind it: lateness only adds to x, so one drain that fits clears the doubt. If ENOUGH_TO_SUSPECT do not
fit, samples were lost unseen, and that many are reported. A line younger than about 10 s is not sure enough for that (YOUNG).

Commits. Nothing may be acknowledged whose gap is not written, and a batch cannot wait long (gateway/head.py: 0.25 s). So `settle` gives
the drains that wait the times that are likely, tells a gap in a part, of as many samples as are missing for sure, and keeps what the
drains say. When more of them have decided, the rest is told in a part of its own. If another gap begins before that, it is decided with
it: numbers are absolute, so the sum is not wrong.

Limits (tests/gateway/test_gateway_imu_gaps.py). After 60 s of undisturbed running, outages up to 60 s are counted exactly; after 10 s
those up to 5 s, and longer ones if the reason does not say otherwise; in the first second within what the reason says. A chip that began
anew, with nobody saying so, may fit to the old line by chance: then the count is still exact to one sample, but not marked. Samples
that wait get their times late, by 0.15 to 0.4 s; those that could not wait may be dated an interval wrong.

Recovery. All of this is in memory: a recorder that starts learns the line anew. It knows when the newest sample of the one before was
taken, so a gap that is told to it first is counted from there, as well as three drains know the interval (some percent: the reason says
so). What was not told yet when a recorder was killed is in no count: of a gap in its last batch one sample, at most 22 where
that batch ended between the head's report of a restart and the samples behind it."""

import enum
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gateway.imu_times import LATE_US, NOMINAL_US, STAMP_US, US, HeadClock, SampleTicks

Times = npt.NDArray[np.uint64]

ENOUGH = 3  # drains behind a reported gap
ENOUGH_TO_SUSPECT = 5  # ... to say that samples were lost unseen
ENOUGH_TO_TEST = 8  # ... to see whether the chip went on
PATIENCE = 12  # drains: then it is decided, come what may
SHY_US = 5_000.0  # of fewer than ENOUGH drains a stamp's lateness cannot be seen: of one this much, of two half
DECIDABLE = 0.45  # of an interval: a line that is less certain cannot tell numbers apart
FIFO_HOLDS = 22  # samples
REST_OF_DRAIN = 12  # of these can follow in other frames of an unfinished drain: a frame has 10
YOUNG = 2e-4  # a line whose interval is not known better than that (its first 10 s) does not show losses nobody reported
UNSEEN = "samples lost unseen"
MINIMUM_STEP_NS = US  # between two samples, when an estimate moved back


class Phase(enum.IntEnum):
    """What is known of the chip's sampling across a gap."""

    GOES_ON = 0
    TESTED = 1
    ANEW = 2


class Missing(NamedTuple):
    """A gap: so many `samples` between the moments; not `counted` if nothing is known of what was before (samples 0)."""

    reason: str
    from_ns: int
    to_ns: int
    samples: int
    counted: bool


class Settled(NamedTuple):
    """Boot times (ns, uint64, shape [n]) of the next drain, oldest sample first, and what is missing before it. No times: a gap alone."""

    times: Times
    missing: Missing | None


class _Drain(NamedTuple):
    """`newest`: the number of its newest sample, if none is missing in the open gap before it."""

    ticks: int
    newest: int
    samples: int
    whole: bool


class _Gap:
    """An open gap; the numbers in `evidence` (drains behind it that have their times already) and of the drains that wait are too low by
    what is missing."""

    def __init__(self, last_ns: int, suspected: bool = False) -> None:
        self.suspected = suspected  # a drain does not fit, nothing else is known
        self.phase = Phase.GOES_ON
        self.reasons: list[str] = []
        self.reported_ticks: int | None = None  # of the head's report, until it is written
        self.told = 0  # samples in the parts that are written
        self.told_once = False  # that there is such a part
        self.dated = 0  # samples by which those behind it were dated later: what was likely
        self.told_before = self.dated_before = 0  # both, when it was interrupted last
        self.last_ns = self.since_ns = last_ns
        self.evidence: list[_Drain] = []

    def interrupt(self, last_ns: int) -> None:
        """Samples came up to `last_ns`, too few to decide; now more may be missing."""
        if last_ns != self.last_ns:
            self.last_ns = self.since_ns = last_ns
            self.told_before, self.dated_before = self.told, self.dated
            self.evidence = []

    @property
    def reason(self) -> str:
        """What was said of it, or that nothing was."""
        return "; ".join(self.reasons) or UNSEEN


ANEW = -1  # a verdict, in place of a number of missing samples: the phase is another
_NONE: Times = np.zeros(0, dtype=np.uint64)


class ImuSamples:
    """Numbers and boot times of IMU samples, strictly rising over the life of the object, also across restarts and boots of the head.
    `last_ns` is the boot time of the newest sample that a recorder before this one has, 0 if there is none.

    Each method that returns a list of Settled tells of drains in the order in which they came."""

    def __init__(self, clock: HeadClock, nominal_us: float = NOMINAL_US, last_ns: int = 0) -> None:
        self._clock = clock
        self._nominal_us = nominal_us
        self._line = SampleTicks(nominal_us)
        self._number = -1  # of the newest sample that has its time, if none is missing in the open gap
        self._last_ns = last_ns  # its boot time; 0: there was none
        self._waiting: list[_Drain] = []
        self._gap: _Gap | None = None

    @property
    def interval_us(self) -> float:
        """The estimated sample interval in µs of head ticks."""
        return self._line.interval_us

    @property
    def undecided(self) -> bool:
        """Whether a little more waiting would tell what is missing."""
        return bool(self._waiting) or (self._gap is not None and self._gap.reported_ticks is not None)

    def configured(self, nominal_us: float) -> list[Settled]:
        """The chip samples at this nominal interval."""
        if math.isclose(nominal_us, self._nominal_us):
            return []
        settled = self.settle()
        self._nominal_us = nominal_us
        self._line = SampleTicks(nominal_us)
        self._interrupt("", Phase.ANEW)
        return settled

    def resume(self, clock: HeadClock) -> None:
        """The head runs in a boot of which a recorder before this one has samples: its next one is the next here, unless it is told that
        samples are missing."""
        self._clock = clock

    def reboot(self, clock: HeadClock, reason: str) -> list[Settled]:
        """Another boot of the head: its ticks start anew."""
        settled = self.settle()
        self._clock = clock
        self._line.restart(new_ticks=True)
        self._interrupt(reason, Phase.ANEW)
        return settled

    def interrupted(self, reason: str, phase: Phase) -> list[Settled]:
        """The sensor does not deliver; when it does again, samples may be missing."""
        settled = self._settle_waiting(force=True)
        self._interrupt(reason, phase)
        return settled

    def missing(self, reason: str, ticks: int, phase: Phase = Phase.GOES_ON) -> list[Settled]:
        """At `ticks` it is reported that samples are missing before the next drain."""
        settled = self.interrupted(reason, phase)
        if self._gap is None:
            at = self._clock.boottime_ns(ticks)
            settled.append(Settled(_NONE, Missing(reason, at, at, 0, counted=False)))
        else:
            self._gap.reported_ticks = ticks
        return settled

    def drained(self, ticks: int, count: int, whole: bool) -> list[Settled]:
        """`count` >= 1 samples came of a drain stamped `ticks`. `whole`: the FIFO held no more when it was counted."""
        before = self._waiting[-1].newest if self._waiting else self._number
        self._waiting.append(_Drain(ticks, before + count, count, whole))
        return self._settle_waiting(force=False)

    def settle(self) -> list[Settled]:
        """All drains that wait get their times, and gaps are told, as far as they are known."""
        settled = self._settle_waiting(force=True)
        gap = self._gap
        if gap is not None and gap.reported_ticks is not None:
            to = max(self._clock.boottime_ns(gap.reported_ticks), gap.since_ns)
            doubt = self._line.error_us(gap.reported_ticks) if self._line.running else self.interval_us
            least = int(max(0.0, (to - gap.last_ns) / US - doubt) / self.interval_us)
            if gap.phase != Phase.GOES_ON:  # a restart is reported when the chip has samples again
                least = max(0, least - FIFO_HOLDS)
            settled.append(Settled(_NONE, self._part(gap, gap.told_before + least, to)))
        return settled

    # --- gaps

    def _interrupt(self, reason: str, phase: Phase) -> None:
        if not self._last_ns:  # nothing is known of what was before
            return
        gap = self._gap = self._gap or _Gap(self._last_ns)
        gap.interrupt(self._last_ns)
        gap.suspected = False
        gap.phase = max(gap.phase, phase)
        if reason and reason not in gap.reasons:
            gap.reasons.append(reason)

    def _part(self, gap: _Gap, least: int, to_ns: int) -> Missing | None:
        """At least so many samples are missing; if that is news, the message that says so. The gap stays open."""
        missing = None
        if least > gap.told or gap.reported_ticks is not None:
            missing = Missing(gap.reason, min(gap.since_ns, to_ns), to_ns, max(0, least - gap.told), counted=least > gap.told)
            gap.told_once = True
            gap.since_ns, gap.reported_ticks, gap.told = to_ns, None, max(gap.told, least)
        return missing

    def _close(self, gap: _Gap, count: int, uncertain: int, to_ns: int) -> Missing | None:
        """So many samples were missing in all. Told with no samples: a report that proves to be of none, doubt about what is written."""
        self._gap = None
        if count <= gap.told and not uncertain and (gap.told_once or gap.reported_ticks is None):
            return None
        reason = gap.reason + (f" (±{uncertain})" if uncertain else "")
        return Missing(reason, min(gap.since_ns, to_ns), to_ns, max(0, count - gap.told), counted=True)

    # --- decisions

    def _settle_waiting(self, force: bool) -> list[Settled]:
        settled: list[Settled] = []
        while self._waiting:
            drain = self._waiting[0]
            if self._gap is None and self._fits(drain):
                self._line.add(drain.newest, drain.ticks, drain.whole)
                settled += self._date([self._waiting.pop(0)], 0)
                self._number = drain.newest
                continue
            gap = self._gap = self._gap or _Gap(self._last_ns, suspected=True)
            verdict, least = self._judge(gap, force)
            if verdict is not None:
                settled += self._decide(gap, verdict)
            elif force:
                settled += self._postpone(gap, least)
            break
        return settled

    def _fits(self, drain: _Drain) -> bool:
        if not self._line.running:
            return True
        error = self._line.error_us(drain.ticks) + LATE_US
        if self._line.rate_error > YOUNG or error > DECIDABLE * self.interval_us:
            return True  # rather the line is wrong than the drain
        x = drain.ticks - self._line.ticks_of(drain.newest)
        return -error <= x and (x <= self.interval_us + STAMP_US + error or not drain.whole)

    def _judge(self, gap: _Gap, force: bool) -> tuple[int | None, int]:
        """How many samples are missing before the drains, or ANEW, or None: more drains are needed to say; and how many at least.

        `force`: a chip that began anew cannot wait, for there is no other line to date its samples by."""
        drains = gap.evidence + self._waiting
        interval = self.interval_us
        whole = np.array([drain.whole for drain in drains])
        number = int(np.count_nonzero(whole))
        patient = len(drains) < PATIENCE
        needed = ENOUGH_TO_SUSPECT if gap.suspected else ENOUGH_TO_TEST if gap.phase == Phase.TESTED else ENOUGH
        tested = number >= needed or not patient
        error = self._line.error_us(drains[-1].ticks) if self._line.running else interval
        if gap.phase == Phase.ANEW or error > DECIDABLE * interval:
            return ANEW if len(drains) >= ENOUGH or force else None, gap.told
        x = np.array([drain.ticks - self._line.ticks_of(drain.newest) for drain in drains])
        missing = int((x.min() + error) // interval)
        if missing < 0:  # samples before their time: that is not the old phase
            return ANEW if tested else None, gap.told
        if gap.suspected and missing == 0:
            return 0, 0
        if number == 0:
            return None, max(gap.told, missing - REST_OF_DRAIN)
        late = np.count_nonzero(x[whole] > missing * interval + error + STAMP_US)  # these would be late with one missing less
        clear = x.min() > missing * interval + error
        if not (missing == 0 or clear or (late >= 2 and late * 3 >= number)):
            if patient:
                return None, gap.told if gap.suspected else max(gap.told, missing - 1)
            latest = np.sort(x[whole])[-1 - number // 6] - interval - STAMP_US  # the phase lies between this and the smallest x
            missing = max(0, min(missing, round((x.min() + latest) / 2 / interval)))
        if not tested:
            sure = x.min() - error - (SHY_US / number if number < ENOUGH else 0.0)
            return None, gap.told if gap.suspected else max(gap.told, int(sure // interval))
        beyond = np.count_nonzero(x[whole] > (missing + 1) * interval + error + STAMP_US + LATE_US)
        fits = gap.phase == Phase.GOES_ON or beyond * 3 <= number
        return missing if fits else ANEW, gap.told

    def _decide(self, gap: _Gap, verdict: int) -> list[Settled]:
        """All drains since the gap get their numbers, those that wait their times, and the gap is closed."""
        waiting, self._waiting = self._waiting, []
        drains = gap.evidence + waiting
        if verdict != ANEW:
            for drain in drains:
                self._line.add(drain.newest + verdict, drain.ticks, drain.whole)
            self._line.fit()  # what was predicted over the gap can be measured again
            settled = self._date(waiting, verdict)
            self._number = waiting[-1].newest + verdict
            # What was told cannot be taken back: if a stamp was later than thought, it is said that it may be too many.
            return self._with(settled, self._close(gap, verdict, max(0, gap.told - verdict), int(settled[0].times[0])))
        doubt_us = self._line.error_us(drains[0].ticks) if self._line.running else None
        self._line.restart()
        for drain in drains:
            self._line.add(drain.newest, drain.ticks, drain.whole)
        first = np.array([self._line.ticks_of(drains[0].newest - drains[0].samples + 1)])
        apart_us = (int(self._clock.boottimes_ns(first)[0]) - gap.last_ns) / US
        if doubt_us is None:  # another boot of the head, another recorder: only the interval tells
            doubt_us = max(0.0, apart_us) * self._line.rate_error
        count = gap.dated_before + max(0, round(apart_us / self.interval_us) - 1)
        settled = self._date(waiting, 0)
        self._number = waiting[-1].newest
        return self._with(settled, self._close(gap, count, int(np.ceil(0.5 + doubt_us / self.interval_us)), int(settled[0].times[0])))

    def _postpone(self, gap: _Gap, least: int) -> list[Settled]:
        """The drains that wait get their times by what is likely, the least that is missing is told, and what they say is kept."""
        waiting, self._waiting = self._waiting, []
        likely = 0 if gap.suspected else int(min(drain.ticks - self._line.ticks_of(drain.newest) for drain in waiting) // self.interval_us)
        gap.dated = max(least, likely)
        settled = self._date(waiting, gap.dated)
        gap.evidence += waiting
        self._number = waiting[-1].newest
        return self._with(settled, self._part(gap, least, int(settled[0].times[0])))

    @staticmethod
    def _with(settled: list[Settled], missing: Missing | None) -> list[Settled]:
        return [settled[0]._replace(missing=missing), *settled[1:]]

    # --- times

    def _date(self, drains: list[_Drain], missing: int) -> list[Settled]:
        return [Settled(self._times(drain.newest - drain.samples + 1 + missing, drain.samples), None) for drain in drains]

    def _times(self, first: int, count: int) -> Times:
        ticks = self._line.ticks_of(first) + np.arange(count, dtype=np.float64) * self.interval_us
        steps = np.arange(count) * MINIMUM_STEP_NS
        times = self._clock.boottimes_ns(ticks)
        rising = np.maximum.accumulate(np.maximum(times, self._last_ns + MINIMUM_STEP_NS) - steps) + steps
        self._last_ns = int(rising[-1])
        return rising.astype(np.uint64)
