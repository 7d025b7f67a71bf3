"""Faults in front of the chips: what vibration, brown-outs and a loose connector do to the wires. The chips stay pure; the wires ask here.

A fault names a chip (sensor name, or address such as "0x77"), begins and ends in time (`begin_s`, `end_s`, seconds of the wires' clock)
and may be narrowed down: the first `skip` transactions (UART: bytes) of that time pass, then at most `times` are hit, each with
`probability`. What it does is its `kind`:

    nack        I2C: no acknowledge of `part` "address" or of "written" byte `byte`
    flip        I2C: bit `bit` of byte `byte` of `part` "address" (byte 1: the one after the repeated start), "written" (byte 0: register or
                command) or "read"; UART: of a byte "read" from the chip or "written" to it
    stretch     I2C: the chip holds SCL for `microseconds` (longer than the controller's 50 ms: time-out)
    stuck_sda   I2C: with `clocks` the chip is left in the middle of a byte that it sends ("read") or has just taken ("written"), and holds
                SDA until it got so many clocks (at most 9); without, SDA is low from begin to end whatever is clocked.
                `error` is what the controller makes of it: "time-out", or "no acknowledge" (arbitration lost)
    stuck_scl   I2C: SCL is low from begin to end
    brown_out   the chip is back at its power-on values
    unplugged   the chip is away from begin to end, and then at its power-on values
    latched     the chip hangs from begin on: it hears, says and measures nothing until its supply was really away (the head's load switch,
                `unplugged`, `brown_out`)
    lost, doubled, late (by `microseconds`), noise (`bytes` random ones before it)     UART: bytes "read" from the chip; all but late
                also bytes "written" to it (`part`)
    dead        UART: nothing goes through, in either direction

What is left open (bit, clocks, byte; of nack: byte 0) is chosen by the seed. In JSON:
{"seed": 1, "faults": [{"kind": …, "chip": …, …}, …]}.
"""

import random
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Part = Literal["address", "written", "read"]
Kind = Literal[
    "nack", "flip", "stretch", "stuck_sda", "stuck_scl", "brown_out", "unplugged", "latched", "lost", "doubled", "late", "noise", "dead"
]  # fmt: skip

# The fields that mean something to each kind, beside those of all.
_FIELDS: dict[str, tuple[str, ...]] = {
    "nack": ("part", "byte"),
    "flip": ("part", "byte", "bit"),
    "stretch": ("microseconds",),
    "stuck_sda": ("part", "byte", "clocks", "error"),
    "stuck_scl": (),
    "brown_out": (),
    "unplugged": (),
    "latched": (),
    "lost": ("part",),
    "doubled": ("part",),
    "late": ("microseconds",),
    "noise": ("part", "bytes"),
    "dead": (),
}
_MOST_CLOCKS = 9  # a byte and its acknowledge


class FaultError(Exception):
    """A script of faults that means nothing; one line says what and where."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One fault, as the module's docstring says. ValueError where its fields do not fit together."""

    kind: Kind
    chip: str | int
    begin_s: float = 0.0
    end_s: float | None = None
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    part: Part | None = None
    byte: int | None = None
    bit: int | None = None
    clocks: int | None = None
    microseconds: int | None = None
    bytes: int | None = None
    error: Literal["time-out", "no acknowledge"] | None = None

    def __post_init__(self) -> None:
        for name in ("part", "byte", "bit", "clocks", "microseconds", "bytes", "error"):
            if getattr(self, name) is not None and name not in _FIELDS[self.kind]:
                raise ValueError(f"{self.kind} has no `{name}`")
        limits = {"bit": (0, 7), "clocks": (1, _MOST_CLOCKS), "byte": (0, 4096), "microseconds": (1, 60_000_000), "bytes": (1, 4096)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"`{name}` must be {low} to {high}, not {value}")
        if self.kind in ("stretch", "late") and self.microseconds is None:
            raise ValueError(f"{self.kind} needs `microseconds`")
        if self.kind == "nack" and self.part == "read":
            raise ValueError("nack: bytes that are read are acknowledged by the controller")
        if self.kind in ("lost", "doubled", "noise") and self.part == "address":
            raise ValueError(f"{self.kind}: a UART has no address")
        if self.kind == "stuck_sda" and self.part == "address":
            raise ValueError('stuck_sda: `part` is "written" or "read"')
        if not 0.0 <= self.begin_s < (self.end_s if self.end_s is not None else float("inf")):
            raise ValueError("`end_s` must come after `begin_s`, and that not before 0")
        if self.skip < 0 or (self.times is not None and self.times < 1) or not 0.0 < self.probability <= 1.0:
            raise ValueError("`skip` must be 0 or more, `times` 1 or more, `probability` above 0 and at most 1")

    def means(self, chip: Any) -> bool:
        """Whether it names this chip of sim/chips."""
        address = getattr(chip, "address", None)
        return self.chip in (getattr(chip, "SENSOR", None), address) or (address is not None and self.chip == f"0x{address:02x}")


_OF_BYTES = ("lost", "doubled", "late", "noise", "dead", "flip")


class _Script(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[Fault]
    seed: int = 0


class Strike:
    """A fault at work. `hits` counts what it hit, `last_us` is when it last did (wires' clock)."""

    def __init__(self, fault: Fault, choice: random.Random) -> None:
        self.fault = fault
        self.begin_us = round(fault.begin_s * 1e6)
        self.end_us = None if fault.end_s is None else round(fault.end_s * 1e6)
        self.hits = 0
        self.last_us: int | None = None
        self.part: Part = fault.part or "read"
        self.byte = self.bit = 0
        self.clocks = 0
        self.passed_power = False  # brown-out done, pulled, or latched up; of the last two also:
        self.back = False
        self._choice = choice
        self._seen = 0

    def within(self, now_us: int) -> bool:
        """Whether its time has come and is not over."""
        return self.begin_us <= now_us and (self.end_us is None or now_us < self.end_us)

    def may_strike(self, now_us: int) -> bool:
        """Whether it can hit anything now. Nothing is chosen for a fault that cannot: most bytes meet none that can."""
        times = self.fault.times
        return self.within(now_us) and (times is None or self.hits < times)

    def struck(self, now_us: int) -> bool:
        """Whether the transaction or byte of this moment is hit; counts it."""
        fault = self.fault
        if not self.within(now_us):
            return False
        self._seen += 1
        if self._seen <= fault.skip or (fault.times is not None and self.hits >= fault.times):
            return False
        if fault.probability < 1.0 and self._choice.random() >= fault.probability:
            return False
        self.hit(now_us)
        return True

    def hit(self, now_us: int) -> None:
        """Counts a hit."""
        self.hits += 1
        self.last_us = now_us

    def choose(self, written: int, read: int) -> bool:
        """Chooses part, byte, bit and clocks in a transaction of so many bytes; False when it has no such byte."""
        fault = self.fault
        sizes = {"address": 2 if written and read else 1, "written": written, "read": read}
        if fault.part is not None:
            self.part = fault.part
        elif fault.kind == "nack":
            self.part = "address"
        else:
            self.part = "read" if read else "written"
        size = sizes[self.part]
        byte = self._choice.randrange(size) if fault.byte is None and size and fault.kind != "nack" else fault.byte
        self.byte = byte or 0
        self.bit = self._choice.randrange(8) if fault.bit is None else fault.bit
        self.clocks = self._choice.randint(1, _MOST_CLOCKS) if fault.clocks is None else fault.clocks
        return self.byte < size

    def noise(self) -> bytes:
        """Random bytes."""
        return self._choice.randbytes(self.fault.bytes or self._choice.randint(1, 8))


class Faults:
    """All faults of a truck; every wire asks about its own chips."""

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self.strikes: list[Strike] = []
        self.cuts = 0  # how often a chip lost its supply
        self._seed = seed
        self._off: list[Any] = []  # chips whose load switch is open
        self._found: dict[tuple[Any, tuple[str, ...]], list[Strike]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> Strike:
        """One more, from now on."""
        strike = Strike(fault, random.Random(f"{self._seed} {len(self.strikes)}"))
        self.strikes.append(strike)
        self._found.clear()
        return strike

    def of(self, chip: Any, *kinds: str) -> list[Strike]:
        """Those of these kinds that name `chip`. Looked for once: every byte and transfer asks, and a soak has hundreds of faults."""
        found = self._found.get((chip, kinds))
        if found is None:
            found = [strike for strike in self.strikes if strike.fault.kind in kinds and strike.fault.means(chip)]
            self._found[chip, kinds] = found
        return found

    @property
    def at_work(self) -> bool:
        """Whether there is anything to ask about."""
        return bool(self.strikes or self._off)

    def supply(self, chip: Any, on: bool, chip_us: int, drained: bool) -> None:
        """The load switch of `chip` opens or closes; `drained`: it was open for so long that nothing was left in the chip."""
        if on:
            self._off.remove(chip)
            if drained:
                self._release(chip)
        else:
            self._off.append(chip)
        self._cut(chip, chip_us)

    def powered(self, chip: Any, now_us: int, chip_us: int) -> bool:
        """Whether the chip has its supply; what happened to it until `now_us` (`chip_us` by the chips' clock) is done to it."""
        present = chip not in self._off
        for strike in self.of(chip, "latched", "brown_out", "unplugged"):
            if now_us < strike.begin_us:
                continue
            if not strike.passed_power:
                strike.passed_power = True
                strike.hit(strike.begin_us)
                self._cut(chip, min(strike.begin_us, chip_us))
                if strike.fault.kind != "latched":
                    self._release(chip)
            if strike.fault.kind == "latched":
                present = present and strike.back
            elif strike.fault.kind == "unplugged" and not strike.back:
                strike.back = not strike.within(now_us)
                present = present and strike.back
                if strike.back and strike.end_us is not None:
                    self._cut(chip, min(strike.end_us, chip_us))
        return present

    def lines(self, chips: Iterable[Any], kind: str, now_us: int) -> Strike | None:
        """The fault that holds a line of the bus of `chips` now whatever is clocked, if one does."""
        for chip in chips:
            for strike in self.of(chip, kind):
                if strike.fault.clocks is None and strike.within(now_us):
                    return strike
        return None

    def transaction(self, chip: Any, now_us: int, written: int, read: int) -> list[Strike]:
        """What happens to one transaction with `chip` of so many bytes."""
        found = []
        for strike in self.of(chip, "nack", "flip", "stretch", "stuck_sda"):
            if strike.fault.kind == "stuck_sda" and strike.fault.clocks is None:
                continue
            if strike.may_strike(now_us) and strike.choose(written, read) and strike.struck(now_us):
                found.append(strike)
        return found

    def any_byte(self, chip: Any, now_us: int) -> bool:
        """Whether bytes of the UART of `chip` may be hit now at all."""
        return any(strike.may_strike(now_us) for strike in self.of(chip, *_OF_BYTES))

    def byte(self, chip: Any, part: Part, byte: int, now_us: int) -> list[tuple[int, int]]:
        """What becomes of one byte on a UART: (how much later in µs, byte) of each that arrives."""
        arriving = [(0, byte)]
        for strike in self.of(chip, *_OF_BYTES):
            kind = strike.fault.kind
            if not strike.may_strike(now_us):
                continue
            strike.choose(1, 1)
            if (kind != "dead" and strike.part != part) or not strike.struck(now_us):
                continue
            if kind in ("lost", "dead"):
                arriving = []
            elif kind == "doubled":
                arriving = arriving * 2
            elif kind == "late":
                arriving = [(later + (strike.fault.microseconds or 0), value) for later, value in arriving]
            elif kind == "noise":
                arriving = [(0, value) for value in strike.noise()] + arriving
            else:
                arriving = [(later, value ^ 1 << strike.bit) for later, value in arriving]
        return arriving

    def _release(self, chip: Any) -> None:
        """What latched up before its supply was away is so no more."""
        for strike in self.of(chip, "latched"):
            strike.back = strike.passed_power

    def _cut(self, chip: Any, at_us: int) -> None:
        """The chip lives to the moment at which its supply goes, and is then as new."""
        self.cuts += 1
        chip.advance(at_us)
        chip.power_cycle()


def parse(text: str | bytes) -> Faults:
    """Faults of a JSON script. FaultError, one line, where it is none."""
    try:
        script = msgspec.json.decode(text, type=_Script)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise FaultError(f"faults: {str(error).splitlines()[0]}") from error
    return Faults(script.faults, script.seed)
