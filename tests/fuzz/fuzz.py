"""Drivers, parsers and conversions against random bytes: no exception escapes, no implausible value comes out as a number.

    python tests/fuzz/fuzz.py --count 1000000      10**6 register images and 10**6 byte streams, over all cores
    python tests/fuzz/fuzz.py --count 1 --seed 77  one of them again

A *register image* is a chip made of random registers behind a bus that fails at times; most make enough sense for a driver to get as far as
delivering (random_chips.py). A *byte stream* is what comes on a serial line: noise, and frames of the sensor (whole, cut, with flipped
bits, with made-up contents and right checksums). What a driver delivers is decoded by its own `decode`, whose numbers must be finite and
within the table's ranges, and as the gateway does it. Escaping means: anything but BusError and OSError, which the supervisor handles."""

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
from random_chips import IMAGES
from random_lines import STREAMS, RandomLine

from drivers.errors import BusError
from firmware import frames
from gateway.convert import Converter
from logbook.quantities import BY_ID

COUNTED = ("samples", "refusals", "numbers")  # of each part
POLLS = 32
POLL_MS = (5, 40, 120, 1100, 11_000)  # a driver meets all its states
# What a driver's decode may say instead of a number, and what a receiver may say beside that.
REASONS = {"saturated", "bad checksum", "not ready", "implausible", "no new sample"}
MORE_REASONS = {"neo_m9n": {"no fix"}}


class Escaped(Exception):
    """What must not happen, and for which part and seed."""


def check(values: dict[str, float | str], sensor: str) -> int:
    """Raises Escaped unless each value is a reason or a number within the table's range; returns how many are numbers."""
    numbers = 0
    for quantity, value in values.items():
        if isinstance(value, str):
            if value not in REASONS and value not in MORE_REASONS.get(sensor, ()):
                raise Escaped(f"{sensor}: {quantity} has the reason {value!r}")
            continue
        row = BY_ID[quantity]
        if not (math.isfinite(value) and row.low <= value <= row.high):
            raise Escaped(f"{sensor}: {quantity} = {value!r}")
        numbers += 1
    return numbers


def judged(module: ModuleType, trim: bytes, raw: bytes) -> int:
    """Checks what the driver makes of a sample, and the gateway; returns how many numbers it is."""
    numbers = check(module.decode(trim, raw), module.SENSOR)
    converter = Converter()
    converter.trim(module.SENSOR, trim)
    return min(numbers, check(dict(converter.typed(module.SENSOR, raw, 0).values), module.SENSOR))


def exercise(part: Part, module: ModuleType, driver: Any, random_: random.Random, between: Callable[[], None], seen: Counter) -> None:
    """Polls a driver as the supervisor does, and decodes what it delivers."""
    buffer = bytearray(max(4, getattr(module, "FRAMES_AT_ONCE", 1)) * module.RAW_SIZE + 3)
    now = random_.getrandbits(30)
    driver.start(now)
    step = random_.choice(POLL_MS)
    for _ in range(POLLS):
        between()
        now = (now + (step if random_.random() < 0.8 else random_.choice(POLL_MS))) & 0x3FFF_FFFF
        try:
            ready = driver.poll(now)
            if driver.gap_reason:
                driver.gap_reason = 0
            if not ready:
                continue
            size = driver.read_into(buffer, 3)
        except (BusError, OSError):
            seen[f"{part.name} refusals"] += 1
            if not driver.configured or random_.random() < 0.3:
                driver.start(now)
            continue
        assert size % module.RAW_SIZE == 0, (part.name, size)
        trim = driver.trim()
        assert len(trim) <= module.TRIM_SIZE, part.name
        for start in range(3, 3 + size, module.RAW_SIZE):
            seen[f"{part.name} samples"] += 1
            seen[f"{part.name} numbers"] += judged(module, trim, bytes(buffer[start : start + module.RAW_SIZE]))


def register_image(part: Part, random_: random.Random, seen: Counter) -> None:
    """One random chip behind an I2C driver, and one random sample with a random trim through the conversion."""
    module = importlib.import_module(part.module)
    chip = IMAGES[part.name](random_)
    exercise(part, module, part.driver(chip), random_, chip.change, seen)
    raw, trim = random_.randbytes(module.RAW_SIZE), random_.randbytes(module.TRIM_SIZE)
    judged(module, trim, raw)


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


def parts_of(kind: str) -> list[Part]:
    """The parts of which there are cases of a kind, "image" or "stream", in turn."""
    return [part for part in PARTS if part.wire == ("i2c" if kind == "image" else "uart")]


def run_one(kind: str, seed: int, seen: Counter) -> None:
    """One case of a kind; raises Escaped with what is needed to repeat it."""
    random_ = random.Random(f"{kind}{seed}")
    parts = parts_of(kind)
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
        print(f"{kind}s        cases   samples  refusals   numbers   all within their ranges")
        for part in PARTS:
            if found[part.name]:
                figures = [found[part.name], *(found[f"{part.name} {what}"] for what in COUNTED)]
                print(f"{part.name:14}" + "".join(f"{figure:10}" for figure in figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
