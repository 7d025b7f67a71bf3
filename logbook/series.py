"""Times and columns of raw numbers as a short row of bits, without loss: version 2 of the column block (docs/formats.md 3 has every bit).

What remains of a column is coded after the best of four predictions has been taken off: its base (noise around a constant) or its sample
before (what drifts), and either of these with a share of what an earlier column did in the same moment (what shakes moves all its axes).
What seldom changes (temperature, the magnetometer's status, a field that stands) is told as places and amounts; the rest as Rice codes:
for the noise of a road, whose differences fall off like a Gaussian's, these are within 0.1 bit of the entropy from the first sample on,
while zstd has to send a table of its own with every half second. Tried without gain: differences of differences, and a linear
prediction of order 4, which costs more to tell than it saves in half a second (bench/compression.py prints what is reached).

Times are a straight line to the nanosecond, but for the few places where the gateway's estimate of that line moves: they are told as a
line and what differs from it.

It runs twice a second on a small machine, so all columns are tried at once, as arrays. The rows of numbers that come out stand one
behind the other, all their quotients first and all their rests behind them, and are written and read in one stroke."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Columns = npt.NDArray[np.int16]

_TIME_BITS = 32
_FRACTION = 8  # binary places of a nanosecond in a line
_STEP_BITS = _TIME_BITS + _FRACTION
_NEAR_NS = 8  # samples this near to a line are on it, while it is looked for

_DISTANCE_BITS, _GAIN_BITS, _GAIN_SHIFT = 4, 6, 4
_FARTHEST = (1 << _DISTANCE_BITS) - 1
_GAIN_LIMIT = 1 << _GAIN_BITS - 1
_HALF = 1 << _GAIN_SHIFT - 1
_HEADER_BITS = 128  # of one series, at most
_NEVER = 1 << 40  # bits: a plan that cannot be


class _Widths(NamedTuple):
    """Bits of header fields: of the length of a number that follows, and of k."""

    length: int
    k: int


_TIMES, _COLUMN = _Widths(6, 5), _Widths(5, 4)


class SeriesError(ValueError):
    """The bits are not what they announce."""


class _Series(NamedTuple):
    """The header of one series. `changes`: how many places and amounts it has, -1 where all numbers are told; `distance` 0: it is told
    without another column."""

    order: int
    base: int
    changes: int
    k: int
    distance: int = 0
    gain: int = 0

    def count(self, samples: int) -> int:
        """How many numbers stand for it."""
        return samples - self.order if self.changes < 0 else 2 * self.changes


def pack(offsets: Numbers, columns: Columns) -> bytes:
    """The bits of `offsets` [n] (ns after the first, below 2^32) and `columns` [n, w]; n from 1 to 65535."""
    header: list[str] = []
    rows = _Rows()
    _pack_times(header, rows, offsets)
    if columns.shape[1]:
        _pack_columns(header, rows, columns)
    head = np.frombuffer("".join(header).encode(), np.uint8) & 1
    return np.packbits(np.concatenate([head, *rows.bits()])).tobytes()


def unpack(data: bytes, samples: int, width: int) -> tuple[Numbers, Columns]:
    """(offsets [samples], columns [samples, width]) in `data`; raises SeriesError."""
    fields = _Fields(data, _STEP_BITS + _FRACTION + _HEADER_BITS * (width + 1))
    line = _Line(fields.number(_STEP_BITS), fields.number(_FRACTION))
    series = [_read_header(fields, samples, column) for column in range(-1, width)]
    rests = _read_rests(np.unpackbits(np.frombuffer(data, np.uint8))[fields.position :], series, samples)
    offsets = (line.at(samples) + _undo(series[0], rests[0])) & (1 << _TIME_BITS) - 1
    table = np.zeros((samples, width), np.int16)
    for column, (one, rest) in enumerate(zip(series[1:], rests[1:], strict=True)):
        if one.distance:
            other = table[:, column - one.distance]
            rest = rest + _share(np.diff(other) if one.order else other - other[0], one.gain)
        table[:, column] = _undo(one, rest).astype(np.int16)  # modulo 2^16
    return offsets, table


# --- headers


class _Fields:
    """The fields at the beginning of `data`, of at most `most` bits. `position` is in bits."""

    def __init__(self, data: bytes, most: int) -> None:
        part = data[: most // 8 + 1]
        self._text = f"{int.from_bytes(part, 'big'):0{8 * len(part)}b}" if part else ""
        self.position = 0

    def number(self, width: int) -> int:
        """The next `width` bits."""
        text = self._text[self.position : self.position + width]
        if len(text) < width:
            raise SeriesError("the bits end within a header")
        self.position += width
        return int(text, 2) if width else 0

    def long(self, width: int) -> int:
        """A length of `width` bits, and a number of so many bits."""
        length = self.number(width)
        if length > _TIME_BITS:
            raise SeriesError(f"a number of {length} bits")
        return self.number(length)


def _long(value: int, width: int) -> str:
    length = value.bit_length()
    return f"{length:0{width}b}" + (f"{value:b}" if length else "")


def _write_header(header: list[str], one: _Series, widths: _Widths) -> None:
    header += str(one.order), _long(one.base << 1 if one.base >= 0 else ~(one.base << 1), widths.length)
    if one.changes >= 0:
        header += "1", _long(one.changes, widths.length)
    elif one.distance:
        header += "01", f"{one.distance:0{_DISTANCE_BITS}b}", f"{one.gain & 2 * _GAIN_LIMIT - 1:0{_GAIN_BITS}b}"
    else:
        header.append("00" if widths is _COLUMN else "0")
    if one.changes:
        header.append(f"{one.k:0{widths.k}b}")


def _read_header(fields: _Fields, samples: int, column: int) -> _Series:
    """`column` -1: the times."""
    widths = _TIMES if column < 0 else _COLUMN
    order = fields.number(1)
    base = fields.long(widths.length)
    changes, distance, gain = -1, 0, 0
    if fields.number(1):
        changes = fields.long(widths.length)
    elif widths is _COLUMN and fields.number(1):
        distance, gain = fields.number(_DISTANCE_BITS), fields.number(_GAIN_BITS)
        gain -= 2 * (gain & _GAIN_LIMIT)
        if not 0 < distance <= column:
            raise SeriesError(f"column {column} refers to {distance} columns before it")
    if changes > samples - order:
        raise SeriesError(f"{changes} changes in {samples} samples")
    return _Series(order, base >> 1 ^ -(base & 1), changes, fields.number(widths.k) if changes else 0, distance, gain)


# --- rows of numbers


class _Rows:
    """Numbers in codes of variable length: a quotient in unary (zeros and a one) and a rest of some bits."""

    def __init__(self) -> None:
        self._quotients: list[Numbers] = []
        self._rests: list[Numbers] = []
        self._widths: list[Numbers] = []

    def rice(self, numbers: Numbers, k: int) -> None:
        """Quotient: number >> k; rest: its lowest k bits."""
        self._add(numbers >> k, numbers & (1 << k) - 1, np.full(len(numbers), k))

    def gamma(self, numbers: Numbers) -> None:
        """Elias gamma, of numbers from 1 on. Quotient: how many bits follow the highest; rest: these bits."""
        widths = _bit_lengths(numbers) - 1
        self._add(widths, numbers - (1 << widths), widths)

    def bits(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """All quotients, all rests."""
        if not self._quotients:
            return np.empty(0, np.uint8), np.empty(0, np.uint8)
        ends = np.cumsum(np.concatenate(self._quotients) + 1)
        unary = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
        unary[ends - 1] = 1
        widths = np.concatenate(self._widths)
        return unary, (np.repeat(np.concatenate(self._rests), widths) >> _shifts(widths) & 1).astype(np.uint8)

    def _add(self, quotients: Numbers, rests: Numbers, widths: Numbers) -> None:
        self._quotients.append(quotients)
        self._rests.append(rests)
        self._widths.append(widths)


def _shifts(widths: Numbers) -> Numbers:
    """For each bit of numbers of these widths, highest first: its place."""
    return np.repeat(np.cumsum(widths), widths) - np.arange(int(widths.sum())) - 1


def _read_rests(bits: npt.NDArray[np.uint8], series: list[_Series], samples: int) -> list[Numbers]:
    """For each series what is left of its samples when the prediction is taken off."""
    counts = [one.count(samples) for one in series]
    total = sum(counts)
    ends = np.flatnonzero(bits)[:total]
    if len(ends) < total:
        raise SeriesError(f"{total} numbers are announced, {len(ends)} are there")
    quotients = np.diff(ends, prepend=-1) - 1
    gammas = np.concatenate(
        [np.arange(count) >= (one.changes if one.changes >= 0 else count) for one, count in zip(series, counts, strict=True)]
    )
    widths = np.where(gammas, quotients, np.repeat([one.k for one in series], counts))
    if total and widths.max() > _TIME_BITS:
        raise SeriesError(f"a number of {widths.max()} bits")
    after = np.cumsum(widths)
    start, length = (int(ends[-1]) + 1, int(after[-1])) if total else (0, 0)
    behind = bits[start + length :]
    if start + length > len(bits) or len(behind) > 7 or behind.any():
        raise SeriesError(f"{start + length} bits and zeros up to a byte should follow the headers, not {len(bits)}")
    sums = np.concatenate([[0], np.cumsum(bits[start : start + length].astype(np.int64) << _shifts(widths))])
    numbers = (np.where(gammas, 1, quotients) << widths) + sums[after] - sums[after - widths]
    parts = np.split(numbers, np.cumsum(counts)[:-1])
    return [_rest(one, part, samples) for one, part in zip(series, parts, strict=True)]


def _rest(one: _Series, numbers: Numbers, samples: int) -> Numbers:
    if one.changes >= 0:
        places, amounts = np.cumsum(numbers[: one.changes] + 1) - 1, numbers[one.changes :]
        if one.changes and places[-1] >= samples - one.order:
            raise SeriesError(f"a change at {places[-1]} of {samples}")
        numbers = np.zeros(samples - one.order, np.int64)
        numbers[places] = amounts
    return numbers >> 1 ^ -(numbers & 1)


def _undo(one: _Series, rest: Numbers) -> Numbers:
    return one.base + (np.concatenate([[0], np.cumsum(rest)]) if one.order else rest)


# --- times


class _Line(NamedTuple):
    """Regular times: `step` from sample to sample, `phase` of the first, both in ns with _FRACTION binary places."""

    step: int
    phase: int

    def at(self, samples: int) -> Numbers:
        """Whole nanoseconds [samples]."""
        return np.arange(samples) * self.step + self.phase >> _FRACTION


def _pack_times(header: list[str], rows: _Rows, offsets: Numbers) -> None:
    samples = len(offsets)
    line = _line(offsets, 0, samples - 1)
    if np.abs(offsets - line.at(samples)).max() > _NEAR_NS:
        # The estimate has moved; a quarter in which it did not may have the line of most samples.
        places = [samples * quarter // 4 for quarter in range(4)] + [samples - 1]
        lines = [line, *(_line(offsets, *part) for part in zip(places, places[1:], strict=False))]
        line = min(lines, key=lambda one: np.count_nonzero(np.diff(offsets - one.at(samples))))
    header += f"{line.step:0{_STEP_BITS}b}", f"{line.phase:0{_FRACTION}b}"
    rest = offsets - line.at(samples)
    numbers = _zigzag(np.diff(rest).astype(np.int32))  # modulo 2^32, as the base
    base = int(rest[0].astype(np.int32))
    runs, amounts = _places(numbers)
    one, bits = _seldom(1, base, runs, amounts, _TIMES)
    if len(runs):
        k, dense = _rice(numbers.tolist(), _TIMES)
        if dense < bits:
            _write_header(header, _Series(1, base, -1, k), _TIMES)
            rows.rice(numbers, k)
            return
    _write_seldom(header, rows, one, runs, amounts, _TIMES)


def _line(offsets: Numbers, first: int, last: int) -> _Line:
    """The line of the samples from `first` to `last`, so that most of what it gives are the very nanoseconds."""
    if last <= first:
        return _Line(0, 0)
    part, number = offsets[first : last + 1], np.arange(last - first + 1)
    slope = (int(part[-1]) - int(part[0])) / (last - first)
    near = np.abs(part - part[0] - slope * number) <= _NEAR_NS
    if np.count_nonzero(near) > 2:  # the ends are rounded to whole ns: all that lie near tell the slope better
        x, y = number[near] - number[near].mean(), part[near] - part[near].mean()
        slope = float((x @ y) / (x @ x))
    step = min(max(round(slope * (1 << _FRACTION)), 0), (1 << _STEP_BITS) - 1)
    # They come out right if the line is nowhere below the sample and nowhere a nanosecond above.
    low = (part[near] << _FRACTION) - (first + number[near]) * step
    return _Line(step, int(low.max()) & (1 << _FRACTION) - 1)


# --- columns


def _pack_columns(header: list[str], rows: _Rows, columns: Columns) -> None:
    """Tries order 0 and 1, alone (0, 1) and with a share of another column (2, 3), for all columns at once: shapes [4, n, w]."""
    samples, width = columns.shape
    moves = np.stack([columns - columns[0], np.diff(columns, axis=0, prepend=columns[:1])])  # int16: modulo 2^16
    others, gains = _references(moves)
    shares = _share(np.take_along_axis(moves, others[:, None, :], axis=2), gains[:, None, :])
    rest = np.concatenate([moves, (moves - shares).astype(np.int16)]).astype(np.int64)
    bases = np.zeros((4, width), np.int64)
    bases[::2] = np.rint(rest[::2].mean(axis=1))
    numbers = _zigzag((rest - bases[:, None, :]).astype(np.int16))
    bases = (columns[0] + bases).astype(np.int16)
    ks = np.log2(numbers.mean(axis=1) + 1).astype(np.int64)  # as in _rice
    ks = np.minimum(ks, (1 << _COLUMN.k) - 1)
    costs = (numbers >> ks[:, None, :]).sum(axis=1) + samples * (1 + ks) + _COLUMN.k + 1
    costs[1::2] -= 1 + ks[1::2]  # the first difference is not told
    costs[2:] += np.where(gains == 0, _NEVER, _DISTANCE_BITS + _GAIN_BITS)
    choices = costs.argmin(axis=0)
    places = np.count_nonzero(numbers[:2], axis=1)
    for column, choice in enumerate(choices.tolist()):
        order = int(places[:, column].argmin())
        if 3 * places[order, column] <= samples:
            runs, amounts = _places(numbers[order, order:, column])
            one, bits = _seldom(order, int(bases[order, column]), runs, amounts, _COLUMN)
            if bits < costs[choice, column]:
                _write_seldom(header, rows, one, runs, amounts, _COLUMN)
                continue
        order = choice % 2
        one = _Series(order, int(bases[choice, column]), -1, int(ks[choice, column]))
        if choice > 1:
            one = one._replace(distance=column - int(others[order, column]), gain=int(gains[order, column]))
        _write_header(header, one, _COLUMN)
        rows.rice(numbers[choice, order:, column], one.k)


def _references(moves: Columns) -> tuple[Numbers, Numbers]:
    """For each order and column [2, w]: the earlier column that tells most of it, and with what gain (0: none)."""
    centered = moves - moves.mean(axis=1, keepdims=True)
    products = centered.transpose(0, 2, 1) @ centered
    own = np.maximum(np.diagonal(products, axis1=1, axis2=2), 1e-9)
    number = np.arange(moves.shape[2])
    apart = number[:, None] - number[None, :]
    told = np.where((apart > 0) & (apart <= _FARTHEST), products**2 / own[:, None, :], 0.0)
    others = told.argmax(axis=2)
    slopes = np.take_along_axis(products, others[:, :, None], axis=2)[:, :, 0] / np.take_along_axis(own, others, axis=1)
    gains = np.clip(np.rint(slopes * (1 << _GAIN_SHIFT)), -_GAIN_LIMIT, _GAIN_LIMIT - 1)
    return others, np.where(told.max(axis=2) > 0, gains, 0).astype(np.int64)


def _share(moves: Columns, gains: Numbers | int) -> Numbers:
    """`gains` sixteenths of what another column did, to the nearest."""
    return moves.astype(np.int64) * gains + _HALF >> _GAIN_SHIFT


# --- codes


def _rice(numbers: list[int], widths: _Widths) -> tuple[int, int]:
    """(k, bits) of the Rice codes of numbers, of which there are some. This k, by their mean, is the best one or costs 0.1 % more."""
    count = len(numbers)
    k = min((sum(numbers) // count + 1).bit_length() - 1, (1 << widths.k) - 1)
    return k, sum(number >> k for number in numbers) + count * (1 + k) + widths.k


def _places(numbers: Numbers) -> tuple[Numbers, Numbers]:
    """(how many zeros stand before each number that is none, these numbers)."""
    at = np.flatnonzero(numbers)
    runs = at.copy()
    runs[1:] -= at[:-1] + 1
    return runs, numbers[at]


def _seldom(order: int, base: int, runs: Numbers, amounts: Numbers, widths: _Widths) -> tuple[_Series, int]:
    """(a series of places and amounts, its bits)."""
    changes = len(runs)
    if not changes:
        return _Series(order, base, 0, 0), widths.length
    k, bits = _rice(runs.tolist(), widths)
    gamma = 2 * sum(map(int.bit_length, amounts.tolist())) - changes
    return _Series(order, base, changes, k), widths.length + changes.bit_length() + bits + gamma


def _write_seldom(header: list[str], rows: _Rows, one: _Series, runs: Numbers, amounts: Numbers, widths: _Widths) -> None:
    _write_header(header, one, widths)
    if one.changes:
        rows.rice(runs, one.k)
        rows.gamma(amounts)


def _zigzag(values: npt.NDArray[np.signedinteger]) -> Numbers:
    """0, -1, 1, -2 … as 0, 1, 2, 3 …"""
    wide = values.astype(np.int64)
    return wide << 1 ^ wide >> 63


def _bit_lengths(numbers: Numbers) -> Numbers:
    """Of numbers below 2^52."""
    return np.frexp(numbers)[1].astype(np.int64)
