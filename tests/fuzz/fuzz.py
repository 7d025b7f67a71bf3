"""Drivers, parsers and conversions against random bytes: no exception escapes, no implausible value comes out as a number.

    python tests/fuzz/fuzz.py --count 1000000      10**6 register images and 10**6 byte streams, over all cores
    python tests/fuzz/fuzz.py --count 1 --seed 77  one of them again

A *register image* is a chip made of random registers behind a bus that fails at times: what is written can be read back, the identity is
right more often than not, so a driver gets as far as delivering. A *byte stream* is what comes on a serial line: noise, and frames of the
sensor (whole, cut, with flipped bits, with made-up contents and right checksums). What a driver delivers is decoded as the gateway does
it. Escaping means: anything but BusError and OSError, which the supervisor handles."""

import argparse
import importlib
import math
import multiprocessing
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

from parts import PARTS, Part
from random_wires import STREAMS, RandomChip, RandomLine

from drivers.errors import BusError
from firmware import frames
from gateway.convert import Converter, plausible
from logbook.quantities import BY_ID

POLLS = 24
POLL_MS = (5, 40, 120, 1100)  # a driver meets all its states
REASONS = {"saturated", "bad checksum", "not ready", "implausible", "no new sample", "no fix", "no trim"}


class Escaped(Exception):
    """What must not happen, and for which part and seed."""


def check(values: dict[str, float | str], part: str) -> int:
    """Raises Escaped unless each value is a reason or a number within the table's range; returns how many are numbers."""
    numbers = 0
    for quantity, value in values.items():
        if isinstance(value, str):
            if value not in REASONS and not value.startswith(part):  # a trim of wrong length is named by the driver
                raise Escaped(f"{part}: {quantity} has the reason {value!r}")
            continue
        row = BY_ID[quantity]
        if not (math.isfinite(value) and row.low <= value <= row.high):
            raise Escaped(f"{part}: {quantity} = {value!r}")
        numbers += 1
    return numbers


def converted(module: ModuleType, trim: bytes, raw: bytes) -> dict[str, float | str]:
    """As the gateway does it."""
    if module.SENSOR in frames.SENSORS.values():
        converter = Converter()
        converter.trim(module.SENSOR, trim)
        return dict(converter.typed(module.SENSOR, raw, 0).values)
    try:
        return plausible(module.decode(trim, raw))
    except ValueError:
        return {}


def exercise(part: Part, module: ModuleType, driver: Any, random_: random.Random, between: Callable[[], None], seen: Counter) -> None:
    """Polls a driver as the supervisor does, and decodes what it delivers."""
    buffer = bytearray(max(4, getattr(module, "FRAMES_AT_ONCE", 1)) * module.RAW_SIZE + 3)
    now = random_.getrandbits(30)
    driver.start(now)
    step = random_.choice(POLL_MS)
    for _ in range(POLLS):
        between()
        now = (now + step) & 0x3FFF_FFFF
        try:
            ready = driver.poll(now)
            if driver.gap_reason:
                driver.gap_reason = 0
            if not ready:
                continue
            size = driver.read_into(buffer, 3)
        except (BusError, OSError):
            seen["refused"] += 1
            if random_.random() < 0.3:
                driver.start(now)
            continue
        assert size % module.RAW_SIZE == 0, (part.name, size)
        trim = driver.trim()
        assert len(trim) <= module.TRIM_SIZE, part.name
        for start in range(3, 3 + size, module.RAW_SIZE):
            seen["samples"] += 1
            seen["numbers"] += check(converted(module, trim, bytes(buffer[start : start + module.RAW_SIZE])), module.SENSOR)


def register_image(part: Part, random_: random.Random, seen: Counter) -> None:
    """One random chip behind an I2C driver, and one random sample with a random trim through the conversion."""
    module = importlib.import_module(part.module)
    chip = RandomChip(part.name, random_)
    exercise(part, module, part.driver(chip), random_, chip.change, seen)
    raw, trim = random_.randbytes(module.RAW_SIZE), random_.randbytes(module.TRIM_SIZE)
    seen["numbers"] += check(converted(module, trim, raw), module.SENSOR)


def byte_stream(part: Part, random_: random.Random, seen: Counter) -> None:
    """One random stream into a UART driver, and the same kind of bytes into the parser of the head's frames."""
    module = importlib.import_module(part.module)
    line = RandomLine(STREAMS[part.name], random_)
    exercise(part, module, part.driver(line), random_, line.change, seen)


def head_frames(random_: random.Random, seen: Counter) -> None:
    """One random stream into the decoder of the head's frames."""
    decoder = frames.Decoder()
    for _ in range(4):
        body = random_.randbytes(random_.randrange(0, 60))
        if random_.random() < 0.5:
            body = frames.pack(random_.getrandbits(8), random_.getrandbits(30), random_.getrandbits(30), 5, 6, body)
            if random_.random() < 0.5:
                cut = bytearray(body)
                cut[random_.randrange(len(cut))] ^= 1 << random_.randrange(8)
                body = bytes(cut)
        seen["frames"] += len(decoder.feed(body))


def run_one(kind: str, seed: int, seen: Counter) -> None:
    """One case of a kind; raises Escaped with what is needed to repeat it."""
    random_ = random.Random(f"{kind}{seed}")
    parts = [part for part in PARTS if part.wire == ("i2c" if kind == "image" else "uart")]
    part = parts[seed % len(parts)]
    try:
        if kind == "image":
            register_image(part, random_, seen)
        else:
            byte_stream(part, random_, seen)
            head_frames(random_, seen)
    except Exception as error:
        raise Escaped(f"{kind} {seed} ({part.name}): {traceback.format_exc(limit=-3)}") from error
    seen[part.name] += 1


def run_many(work: tuple[str, int, int]) -> tuple[str, Counter, str]:
    """Cases `first` to `first + count` of a kind, in one process: the kind, what was seen, and what escaped ("": nothing)."""
    kind, first, count = work
    seen: Counter = Counter()
    try:
        for seed in range(first, first + count):
            run_one(kind, seed, seen)
    except Escaped as error:
        return kind, seen, str(error)
    return kind, seen, ""


def main(arguments: list[str]) -> int:
    """The command; 1 if something escaped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    from rich.progress import track

    step = max(1, min(2000, options.count // 8))
    ends = options.seed + options.count
    work = [(kind, first, min(step, ends - first)) for kind in ("image", "stream") for first in range(options.seed, ends, step)]
    seen: dict[str, Counter] = {"image": Counter(), "stream": Counter()}
    with multiprocessing.Pool() as pool:
        for kind, found, escaped in track(pool.imap_unordered(run_many, work), total=len(work), description="fuzzing"):
            seen[kind] += found
            if escaped:
                pool.terminate()
                print(escaped, file=sys.stderr)
                return 1
    for kind, found in seen.items():
        cases = ", ".join(f"{found[part.name]} {part.name}" for part in PARTS if found[part.name])
        print(f"{kind}s: {cases}")
        print(f"  {found['samples']} samples delivered, {found['refused']} refusals, {found['numbers']} numbers, all within their ranges")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
