"""Which faults each part meets, and when: at moments chosen by a seed, and aimed at each kind of transfer or byte of a healthy run."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from fault_rig import Rig, Sent, Transaction
from parts import Part

from sim.faults import Fault

LONG_S = 3.0
HOUR_S = 3600.0
SHORT_EACH = 4  # of the aimed faults of each row, chosen, in the short form: half of them at the part's set-up
LONG_EACH = {"i2c": 700, "uart": 250}  # in the long form
EACH = {"first_fleet": 100, "sht45-heater": 40, "pms5003": 120}  # their runs are long
BEGIN_S = {"sht45-heater": 1.5, "sps30": 6.5, "sps30_i2c": 7.5, "neo_m9n": 9.0, "pms5003": 38.0}
ROUND_US = {"icm20948": 320_000}  # in which the IMU's driver has looked at all that it looks at
HEATER = "sht45-heater"
BOX = "first_fleet"

I2C_ROWS = (
    "brown-out", "unplugged 5 s", "loose contact 7 s", "unplugged 1 h", "one NACK", "NACK of address 3 s", "NACK of data 3 s",
    "SDA held, k clocks", "… told as EIO", "incomplete write", "SDA low 3 s", "SCL low 3 s", "stretch 2 ms, 3 s", "stretch 80 ms, once",
    "stretch 80 ms, 3 s", "flip: address", "flip: written", "flip: read", "two at once",
    "head stalls <= 1 s", "head stalls 3 s",
)  # fmt: skip
UART_ROWS = (
    "brown-out", "unplugged 5 s", "loose contact 7 s", "unplugged 1 h", "byte lost", "2 % lost, 5 s", "byte doubled", "2 % doubled, 5 s",
    "noise", "2 % noise, 5 s", "byte late", "2 % late, 5 s", "flipped bit", "to chip: lost", "to chip: doubled", "to chip: noise",
    "to chip: flip", "line dead 5 s", "two at once", "head stalls <= 1 s", "head stalls 3 s",
)  # fmt: skip
ROWS = {"i2c": I2C_ROWS, "uart": UART_ROWS}

# The faults after which a part's own start is due, and what it takes beyond the bar of 2 s (its model's times, and what its driver must
# wait for): its supply went, or its driver cannot know better than to begin anew. The SPS30 makes its first sample 1 s after its start,
# on I2C its silence must be waited for as well. The PMS5003's fan runs for 30 s; where it speaks in step with the requests when it comes
# back, that takes up to 8 s more to be found out; silence is listened to for 2.5 s. The receiver must be found at its speed. The heater's
# pulse and the 60 s behind it are the chip's warmth, whatever the fault. The first fleet's box is given 1 s for each reply.
_SUPPLY = ("brown-out", "unplugged 5 s", "loose contact 7 s", "unplugged 1 h", "two at once")
_SHARES = ("2 % lost, 5 s", "2 % doubled, 5 s", "2 % noise, 5 s")
_TO_CHIP = ("to chip: lost", "to chip: doubled", "to chip: noise", "to chip: flip")
_DEAD = "line dead 5 s"
_STARTS: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("sps30", 0.3, (*_SUPPLY, _DEAD)),
    ("sps30_i2c", 0.8, _SUPPLY),
    ("pms5003", 39.0, _SUPPLY),
    ("pms5003", 30.0, _SHARES),
    ("pms5003", 3.5, (*_TO_CHIP, _DEAD)),
    ("neo_m9n", 2.3, (*_SUPPLY, *_SHARES, _DEAD)),
    ("first_fleet", 0.3, (*_SUPPLY, _DEAD)),
    ("sht45-heater", 60.3, I2C_ROWS),
)
STARTS = {(part, row): seconds for part, seconds, rows in _STARTS for row in rows}
# What is added where the fault struck before the first sample.
FIRST_STARTS = {"sps30_i2c": 1.8, "pms5003": 33.0, "neo_m9n": 2.3, "first_fleet": 3.8, "sht45-heater": 60.3}


class Case(NamedTuple):
    """One run: `row` of the table, the faults, and how they are judged (fault_run.run): `own_s` is the part's own start,
    `stall_s` when the head stops polling and for how long: it writes to its flash. `at_setup`: aimed at what comes before the first
    sample."""

    row: str
    faults: tuple[Fault, ...]
    visible: bool = False
    wrong: bool = False
    own_s: float = 0.0
    stall_s: tuple[float, float] = (0.0, 0.0)
    at_setup: bool = False


def begin_s(part: Part) -> float:
    """When the faults begin: the part has delivered some samples. The heater's is about to heat, or does."""
    return BEGIN_S.get(part.name, 5.0)


def _choice(part: Part, what: str, seed: int) -> random.Random:
    return random.Random(f"{part.name} {what} {seed}")


class Maker:
    """Makes the faults of one part and moment."""

    def __init__(self, part: Part, begin: float) -> None:
        self.chip = str(part.model().SENSOR)
        self.begin = begin

    def fault(self, kind: str, **fields: Any) -> Fault:
        """From the moment on, or another `begin_s`."""
        return Fault(kind=kind, chip=self.chip, begin_s=fields.pop("begin_s", self.begin), **fields)  # type: ignore[arg-type]

    def lasting(self, kind: str, seconds: float = LONG_S, **fields: Any) -> Fault:
        """For so long from the moment on."""
        return self.fault(kind, end_s=self.begin + seconds, **fields)


def moments(part: Part, seed: int, *, hour: bool = False) -> Iterator[Case]:
    """Faults that begin while the part delivers, at a moment chosen by the seed."""
    choice = _choice(part, "moments", seed)
    make = Maker(part, begin_s(part) + round(choice.random() * (2.0 if part.name == HEATER else 1.0), 3))
    fault, lasting, begin = make.fault, make.lasting, make.begin
    rattle = tuple(fault("unplugged", begin_s=begin + 0.9 * turn, end_s=begin + 0.9 * turn + 0.2) for turn in range(8))
    yield Case("brown-out", (fault("brown_out"),))
    yield Case("unplugged 5 s", (lasting("unplugged", 5.0),), visible=True)
    yield Case("loose contact 7 s", rattle)
    if hour:
        yield Case("unplugged 1 h", (lasting("unplugged", HOUR_S),), visible=True)
    if part.wire == "i2c":
        yield Case("NACK of address 3 s", (lasting("nack", part="address"),), visible=True)
        yield Case("NACK of data 3 s", (lasting("nack", part="written", byte=0),), visible=True)
        yield Case("SDA low 3 s", (lasting("stuck_sda"),), visible=True)
        yield Case("SDA low 3 s", (lasting("stuck_sda", error="no acknowledge"),), visible=True)
        yield Case("SCL low 3 s", (lasting("stuck_scl"),), visible=True)
        yield Case("stretch 2 ms, 3 s", (lasting("stretch", microseconds=2_000),))
        yield Case("stretch 80 ms, 3 s", (lasting("stretch", microseconds=80_000),), visible=True)
    else:
        for kind in ("lost", "doubled", "noise"):
            yield Case(f"2 % {kind}, 5 s", (lasting(kind, 5.0, probability=0.02),))
        late = 1_000 if part.name == BOX else 30_000  # it sends 4000 bytes a second: late ones must not fill its line
        yield Case("2 % late, 5 s", (lasting("late", 5.0, probability=0.02, microseconds=late),))
        yield Case("line dead 5 s", (lasting("dead", 5.0),), visible=True)
    for seconds in (0.3, 1.0, 3.0):
        yield Case("head stalls 3 s" if seconds > 1 else "head stalls <= 1 s", (), stall_s=(begin, seconds))
    for _ in range(3):
        yield _two_at_once(part, choice, make)


def _two_at_once(part: Part, choice: random.Random, make: Maker) -> Case:
    """Two of different kinds, the second within the time of the first, or just behind it."""
    length = choice.choice((0.05, 0.3, 1.0, 3.0))
    both = []
    kinds = ("nack", "stretch", "stuck_sda", "stuck_scl", "brown_out", "unplugged", "flip")
    for kind in choice.sample(kinds if part.wire == "i2c" else ("lost", "doubled", "late", "noise", "dead", "brown_out", "unplugged"), 2):
        begin = make.begin + (round(choice.uniform(0.0, length * 1.2), 3) if both else 0.0)
        fields: dict[str, Any] = {"begin_s": begin}
        if kind != "brown_out":
            fields["end_s"] = begin + length
        if kind in ("stretch", "late"):
            fields["microseconds"] = choice.choice((2_000, 80_000)) if kind == "stretch" else 1_000
        if kind == "flip":  # at both ends two equal flips in a row can pass, as the drivers say
            fields["part"] = choice.choice(("address", "written"))
        if kind in ("nack", "flip", "lost", "doubled", "late", "noise"):
            fields["probability"] = choice.choice((0.05, 0.5))
        both.append(make.fault(kind, **fields))
    return Case("two at once", tuple(both))


# --- aimed at one transfer of an I2C part


def aimed(part: Part, seed: int) -> Iterator[Case]:
    """Each fault of a single transfer or byte, at each kind of transfer or byte of a healthy run, and a brown-out between them."""
    rig = Rig(part)
    rig.advance(begin_s(part) + 2.5)
    begun_us = rig.samples[0] if rig.samples else 0
    period_us = 1000 * rig.driver.PERIOD_MS + 50_000 if rig.driver.PERIOD_MS else ROUND_US.get(part.name, 60_000)
    window = (round(begin_s(part) * 1e6), round(begin_s(part) * 1e6) + period_us)
    if part.wire == "i2c":
        yield from _at_transfers(part, seed, rig.trace, _kinds(rig.trace, begun_us, window), begun_us)
        moments_us = [transaction.t_us for transaction in rig.trace]
    else:
        yield from _at_bytes(part, seed, rig.bytes, begun_us)
        moments_us = [sent.t_us for sent in rig.bytes]
    for t_us in dict.fromkeys(t_us for t_us in moments_us if window[0] <= t_us <= window[1] or t_us < begun_us):
        yield Case("brown-out", (Maker(part, (t_us + 1) / 1e6).fault("brown_out"),), at_setup=t_us < begun_us)


def _at_transfers(part: Part, seed: int, trace: Sequence[Transaction], chosen: Iterable[int], begun_us: int) -> Iterator[Case]:
    choice = _choice(part, "transfers", seed)
    fault = Maker(part, 0.0).fault
    for index in chosen:
        transaction = trace[index]
        case = partial(Case, at_setup=transaction.t_us < begun_us)
        yield case("one NACK", (fault("nack", part="address", skip=index, times=1),))
        yield case("stretch 80 ms, once", (fault("stretch", microseconds=80_000, skip=index, times=1),))
        for byte in sorted({0, len(transaction.write) - 1} & set(range(len(transaction.write)))):
            skip = _before(trace, index, "written", byte)
            yield case("one NACK", (fault("nack", part="written", byte=byte, skip=skip, times=1),))
            for error in ("time-out", "no acknowledge"):
                yield case("incomplete write", (fault("stuck_sda", part="written", byte=byte, clocks=1, skip=skip, times=1, error=error),))
        for byte in sorted({0, transaction.read_n // 2, transaction.read_n - 1} & set(range(transaction.read_n))):
            skip = _before(trace, index, "read", byte)
            for row, error in (("SDA held, k clocks", "time-out"), ("… told as EIO", "no acknowledge")):
                clocks = choice.randint(1, 9)
                yield case(row, (fault("stuck_sda", part="read", byte=byte, clocks=clocks, skip=skip, times=1, error=error),))
        for target in ("address", "written", "read"):
            for byte in range(_size(transaction, target)):
                skip = _before(trace, index, target, byte)
                for bit in range(8):
                    flip = fault("flip", part=target, skip=skip, byte=byte, bit=bit, times=1)
                    yield case(f"flip: {target}", (flip,), wrong=target == "read")


def _before(trace: Sequence[Transaction], index: int, target: str, byte: int) -> int:
    """How many transfers before number `index` have that byte."""
    return sum(_size(earlier, target) > byte for earlier in trace[:index])


def _size(transaction: Transaction, target: str) -> int:
    written, read = len(transaction.write), transaction.read_n
    return {"address": 2 if written and read else 1, "written": written, "read": read}[target]


def _kinds(trace: Sequence[Transaction], delivers_us: int, window: tuple[int, int]) -> list[int]:
    """The first transfer of each kind in the set-up, and every one of a period while the part delivers. Of a kind are those that write the
    same, or read as much from the same place: behind the same command where they name none."""
    seen = set()
    chosen = []
    command = b""
    for index, transaction in enumerate(trace):
        kind = (transaction.write[:1] if transaction.read_n else transaction.write, transaction.read_n)
        kind += () if transaction.write else (command,)
        command = transaction.write or command
        if window[0] <= transaction.t_us <= window[1] or (transaction.t_us < delivers_us and kind not in seen):
            chosen.append(index)
        seen.add(kind)
    return chosen


# --- aimed at one byte of a serial line


def _at_bytes(part: Part, seed: int, trace: Sequence[Sent], begun_us: int) -> Iterator[Case]:
    """Each byte of the set-up, and of two periods while the part delivers (of the box, which speaks all the time, of 60 ms)."""
    fault = Maker(part, 0.0).fault
    first = begin_s(part) * 1e6
    last = first + (60_000 if part.name == BOX else 2_100_000)
    counts = {"read": 0, "written": 0}
    for sent in trace:
        skip = counts[sent.part]
        counts[sent.part] += 1
        if not (sent.t_us < begun_us or first <= sent.t_us < last):
            continue
        case = partial(Case, at_setup=sent.t_us < begun_us)
        where: dict[str, Any] = {"part": sent.part, "skip": skip, "times": 1}
        names = {"read": ("byte lost", "byte doubled", "noise", "flipped bit")}.get(
            sent.part, ("to chip: lost", "to chip: doubled", "to chip: noise", "to chip: flip")
        )
        for row, kind in zip(names, ("lost", "doubled", "noise"), strict=False):
            yield case(row, (fault(kind, **where),))
        for bit in range(8):
            yield case(names[3], (fault("flip", bit=bit, **where),))
        if sent.part == "read":
            yield case("byte late", (fault("late", microseconds=150_000, skip=skip, times=1),))


def limited(cases: Iterable[Case], most: int, choice: random.Random) -> Iterator[Case]:
    """At most so many of each row, chosen: of the set-up and of the time behind it one half each, as far as there are so many."""
    rows: dict[str, tuple[list[Case], list[Case]]] = {}
    for case in cases:
        rows.setdefault(case.row, ([], []))[case.at_setup].append(case)
    for running, at_setup in rows.values():
        of_setup = min(len(at_setup), max(most // 2, most - len(running)))
        yield from choice.sample(at_setup, of_setup)
        yield from choice.sample(running, min(len(running), most - of_setup))


def cases(part: Part, seeds: int, *, short: bool) -> Iterator[tuple[int, Case]]:
    """All runs of a part, with their seeds. The long form has all aimed faults once, and `seeds` moments of the others."""
    most = SHORT_EACH if short else EACH.get(part.name, LONG_EACH[part.wire])
    for seed in range(seeds):
        for case in moments(part, seed, hour=not short and seed == 0):
            yield seed, case._replace(own_s=STARTS.get((part.name, case.row), 0.0))
    for case in limited(aimed(part, 0), most, _choice(part, "limited", 0)):
        yield 0, case._replace(own_s=STARTS.get((part.name, case.row), 0.0))
