"""Every flash that a power cut can leave behind, made from the record of one whole run, and judged as seldom as is honest.

A cut in operation n after k of its bytes leaves what operations 0 to n-1 made of the flash, and the first k bytes of n: a program clears
bits, an erase sets them. So one run, with every use of the flash written down (sim/pico.py), gives the flash after every cut.

Starting a board and running its tool again is costly, so two flashes are judged once when they are proved equal: the runs that judge a
flash are written down too, and depend on nothing but the bytes that they read (or program over) before they have written them
themselves. A flash with the same bytes there is read, and answered, in the same way. What else goes into a run is the clock, as the time
stamps that LittleFS keeps of files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

from sim.pico import Use

Flash = NDArray[numpy.uint8]
Mask = NDArray[numpy.bool_]
ALL = "all"


@dataclass
class Result:
    """Of one step: operations, cuts, flashes that differ from the one before, those that were judged (the others are proved equal to one
    of them), what ran after so many cuts, what failed."""

    operations: int = 0
    cuts: int = 0
    flashes: int = 0
    judged: int = 0
    ran: dict[str, int] = field(default_factory=dict)
    bricks: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """The sum; `operations` stays."""
        self.cuts += other.cuts
        self.flashes += other.flashes
        self.judged += other.judged
        for label, count in other.ran.items():
            self.ran[label] = self.ran.get(label, 0) + count
        self.bricks += other.bricks


class Needed:
    """Which bytes of a flash the runs depended on, one after the other."""

    def __init__(self, size: int) -> None:
        self.mask: Mask = numpy.zeros(size, bool)
        self._own: Mask = numpy.zeros(size, bool)  # what the runs wrote, from what they had read

    def add(self, uses: Iterable[Use]) -> None:
        """A run's uses of the flash."""
        for use in uses:
            span = slice(use.position, use.position + use.size)
            if use.kind != "e":  # what a program leaves depends on what was there
                self.mask[span] |= ~self._own[span]
            if use.kind != "r":
                self._own[span] = True


def after(old: Flash, use: Use) -> Flash:
    """The bytes where `use` was, when it is done."""
    return old & numpy.frombuffer(use.data, numpy.uint8) if use.kind == "p" else numpy.full(use.size, 0xFF, numpy.uint8)


def operations(uses: Iterable[Use]) -> list[Use]:
    """What can be cut."""
    return [use for use in uses if use.kind != "r"]


def places(size: int, shares: Sequence[str]) -> list[int]:
    """After how many bytes an operation of `size` is cut: numbers, "half", "less" (all but one), or all of them."""
    if ALL in shares:
        return list(range(size))
    number = {"half": size // 2, "less": size - 1}
    return sorted({0, *(min(number[share] if share in number else int(share), size - 1) for share in shares)})


def flash_after(flash: Flash, done: Sequence[Use], cut: int, count: int) -> Flash:
    """The flash after a cut in operation `cut` after `count` of its bytes."""
    state = flash.copy()
    for number, use in enumerate(done[: cut + 1]):
        end = use.size if number < cut else count
        span = slice(use.position, use.position + end)
        state[span] = after(state[use.position : use.position + use.size], use)[:end]
    return state


Judge = Callable[[Flash], tuple[str, str, Mask]]  # what runs, why it is a brick ("" : it is none), the bytes on which that depends


def walk(flash: Flash, done: Sequence[Use], first: int, last: int, shares: Sequence[str], judge: Judge) -> Result:
    """Cuts the operations `first` to `last` (not included) of `done`, which began with `flash`."""
    result = Result()
    state = flash_after(flash, done, first, 0)
    known = state
    needed: Mask | None = None
    label = brick = ""
    before = numpy.array([], numpy.uint8)
    for number in range(first, last):
        use = done[number]
        span = slice(use.position, use.position + use.size)
        old = state[span].copy()
        new = after(old, use)
        cuts = numpy.array(places(use.size, shares))
        result.cuts += len(cuts)
        changed = numpy.concatenate(([0], numpy.cumsum(old != new)))
        result.flashes += int(numpy.count_nonzero(numpy.diff(changed[cuts]))) + (not numpy.array_equal(before, state))
        if needed is not None and (needed & (state != known)).any():
            needed = None
        at = 0
        while at < len(cuts):
            if needed is None:
                state[span.start : span.start + cuts[at]] = new[: cuts[at]]
                known = state.copy()
                label, brick, needed = judge(known)
                result.judged += 1
                if brick:
                    result.bricks.append(f"operation {number}, {cuts[at]} of {use.size} bytes: {brick}")
            other_new = numpy.concatenate(([0], numpy.cumsum(needed[span] & (new != known[span]))))
            other_old = numpy.cumsum((needed[span] & (old != known[span]))[::-1])[::-1]
            differ = other_new[cuts[at:]] + other_old[cuts[at:]] > 0
            same = int(differ.argmax()) if differ.any() else len(differ)
            result.ran[label] = result.ran.get(label, 0) + same
            at += same
            if at < len(cuts):
                needed = None
        state[span.start : span.start + cuts[-1]] = new[: cuts[-1]]
        before = state.copy()
        state[span] = new
    return result
