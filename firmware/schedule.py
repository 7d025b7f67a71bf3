"""How many samples of a periodic sensor are missing, by the time that passed between those that came.

A sensor that lost time may keep its old pace afterwards (1.9 periods, then 0.1: nothing is missing) or begin a new one (1.9, 1.0, 1.9,
1.0 …: almost one is missing each time). So what is left over of a period is carried: samples delivered and samples reported add up to the
periods that passed, to within one, however often the sensor is interrupted and for however long. A sample that comes early, because the
sensor began anew, counts as a whole period: it is no credit for a later loss.

That is for a sensor whose driver makes the pace (a conversion is commanded each period of the head's clock). A chip that makes the pace
itself (`own_pace`) is off the nominal one, by 10 % at times, and carrying the small difference of every sample would count that as loss.
There an interval within an eighth of the period is one sample, whatever it was, and moves the estimate of the chip's pace, by which
interruptions are then divided: by an eighth of the difference, but no more than 0.1 %, so that one late sample is no pace. Within 0.8 %
of the nominal period the nominal counts: that is jitter of the polling, of which a sixteenth of a period is allowed for. So exact are
interruptions of up to some 60 periods.

Times are in 1/8 ms; nothing here exceeds 2**30."""

from drivers.portable import const, elapsed

_LONGEST_MS = const(0x0400_0000)  # 18.6 h: beyond, whole nominal periods are enough


class Schedule:
    """Of one sensor; `period` in ms, 0 for one that counts by itself (a FIFO): nothing is ever missing here."""

    def __init__(self, period: int, own_pace: bool = False) -> None:
        self._period = period
        self._own_pace = own_pace
        self._pace = period * 8  # of the chip, 1/8 ms
        self._late = 0  # what is left over, 1/8 ms
        self._owed = 0  # of the sample under way, 1/8 ms
        self._last = 0
        self._running = False

    def silent(self, now: int) -> bool:
        """Whether nothing has come for two and a half periods."""
        return self._running and self._period > 0 and elapsed(now, self._last) > self._period * 5 // 2

    def due(self, now: int) -> int:
        """A sample is about to be read: the number that is missing before it. If reading fails, the next call counts on from here."""
        period = self._period
        if not self._running or period == 0:
            self._running = True
            self._last = now
            self._owed = self._pace
            return 0
        gone = elapsed(now, self._last)
        self._last = now
        if gone > _LONGEST_MS:
            self._late = 0
            self._owed = self._pace
            return gone // period - 1
        gone *= 8
        if self._own_pace and self._owed == 0 and period * 7 <= gone <= period * 9:  # within an eighth
            most = (period >> 7) + 1
            self._pace += min(max((gone - self._pace) >> 3, -most), most)
            self._owed = self._pace
            return 0
        pace = self._pace
        if -period <= (pace - period * 8) * 16 <= period:
            pace = period * 8
        slack = period >> 1  # a sixteenth of the period
        total = self._late + self._owed + gone
        slots = (total + slack) // pace
        missing = slots - 1 if slots > 1 else 0
        self._owed = pace
        self._late = max(total - (missing + 1) * pace, -slack)
        return missing

    def delivered(self) -> None:
        """The sample has been read."""
        self._owed = 0
