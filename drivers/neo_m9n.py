"""u-blox NEO-M9N GNSS receiver on UART (38400 8N1 as delivered) or USB: one NAV-PVT message an epoch, by default each second.

Frames and keys: drivers/ubx.py. The set-up is a chain of requests, none of which waits: find the baud rate (MON-VER), VALSET to 115200
and find it again there, compare what is in force (VALGET), and only where it differs set it: UBX out, NMEA off, NAV-PVT every epoch,
the rate, the automotive model. All of it goes to RAM, backup RAM and flash: a brown-out at engine start then costs no more than the
receiver's own start, also while gpsd owns the port and nobody could set it up again; the comparison spares the flash (some 100 000
writes). 115200 is kept last, in the backup layers only: by then it is proven on this wire, and RAM has it already.

The acknowledge of the change of baud may come at either speed or broken (satpulse issue 90 saw it on an F9T): the answer at the new
speed is what counts. Receivers of generation 8 and older have no VALSET (NAK or silence): not supported, error "wrong identity" or
time-out.

Where a request stayed without an answer, a wrong bit may have made its length larger, and the receiver waits for the rest (how long a frame
it believes in is not known: up to 1 KiB is assumed). So before it is asked again it gets as many bytes FF, and the frame ends with a wrong
checksum. FF is one start bit and silence: at another speed that is at worst one byte, but from 9600 baud to 115200 a broken frame, of
which more than 100 in a second would make the receiver close its input (u-blox interface description; unverified here): there it gets 64.

`raw` is NAV-PVT's whole payload (drivers/nav_pvt.py). TRIM is MON-VER's software version; its layout (version 30 bytes, hardware 10,
extensions of 30) is SparkFun's."""

from drivers import ubx
from drivers.errors import BAD_CHECKSUM, POWER_ON_VALUES, TIME_OUT, WRONG_IDENTITY, BusError
from drivers.portable import TYPE_CHECKING, const, elapsed

if TYPE_CHECKING:
    from drivers.faces import TunableUART
    from drivers.nav_pvt import QUANTITIES, decode

__all__ = ("QUANTITIES", "decode")

SENSOR = "neo_m9n"
_PVT_SIZE = const(92)
RAW_SIZE = _PVT_SIZE
TRIM_SIZE = 30
PERIOD_MS = 1000

BAUDS = (38400, 9600, 115200)
_FAST = const(2)  # index of the one it ends at
_VERSION_SIZE = const(40)
_ACK_SIZE = const(2)
_CFG = const(0x06)

_PAUSE_MS = const(50)  # inside a frame; the receiver sends it in one go
_CHUNKS = const(8)  # read in one poll: a line that babbles must not hold the head
# A reply waits behind the NMEA of an epoch: 500 bytes are 130 ms at 38400, 520 ms at 9600.
_REPLY_MS = const(400)
_SLOW_REPLY_MS = const(1200)
_SET_MS = const(1000)  # flash is written meanwhile
_PAD = b"\xff" * 64
_PADS = const(17)
_PAD_BITS = const(640_000)  # of one, times 1000: by the baud rate the ms it takes
_LATE_MS = const(200)  # beside two periods: one epoch may be lost on the line, two mean that it does not send
_FIRST_MS = const(2000)  # beside the period, for the first epoch after the set-up

# What was asked last. From _SPEEDING on the answer is expected at 115200.
_PROBING, _CHANGING, _SPEEDING, _COMPARING, _SETTING, _USB, _KEEPING, _STREAMING = range(8)

_VERSION = ubx.frame(ubx.MON_VER)
_CHANGE = ubx.valset(ubx.RAM, (ubx.UART1_BAUDRATE, 115200))
_KEEP = ubx.valset(ubx.BBR | ubx.FLASH, (ubx.UART1_BAUDRATE, 115200))
_ALL = ubx.RAM | ubx.BBR | ubx.FLASH
# The module may be wired by its USB instead; a receiver without one refuses these keys, which is no error.
_USB_OUT = ubx.valset(_ALL, (ubx.USBOUTPROT_UBX, 1), (ubx.USBOUTPROT_NMEA, 0), (ubx.MSGOUT_NAV_PVT_USB, 1))


class NEOM9N:
    """The receiver on a line with machine.UART's methods (`readinto` that does not wait, `init(baudrate=)`).

    `version` is MON-VER's software version as soon as the receiver said it, also of one that is not supported."""

    SENSOR = SENSOR
    RAW_SIZE = RAW_SIZE
    TRIM_SIZE = TRIM_SIZE
    OWN_PACE = True
    gap_reason = 0  # a message that comes while one waits stays in the line's buffer

    def __init__(self, uart: "TunableUART", period_ms: int = PERIOD_MS) -> None:
        """`period_ms`: from epoch to epoch, 100 to 10 000 (ValueError)."""
        if not 100 <= period_ms <= 10_000:
            raise ValueError("neo_m9n: period out of range")
        self.PERIOD_MS = period_ms
        self._uart = uart
        self._settings = (
            (ubx.UART1INPROT_UBX, 1),
            (ubx.UART1OUTPROT_UBX, 1),
            (ubx.UART1OUTPROT_NMEA, 0),
            (ubx.MSGOUT_NAV_PVT_UART1, 1),
            (ubx.RATE_MEAS, period_ms),
            (ubx.NAVSPG_DYNMODEL, ubx.AUTOMOTIVE),
        )
        self._frames = ubx.Reader(_PVT_SIZE)
        self._chunk = bytearray(64)
        self._count = 0
        self._next = 0
        self._data = bytearray(RAW_SIZE)
        self._at = 0  # the baud that is tried first: the last one that worked
        self._known = False  # it has been set up by us: if it no longer is, it lost power
        self._hung = False  # a request had no answer: it may wait for the rest of it
        self._pads = 0
        self.version = b""
        self.start(0)

    def start(self, now: int) -> None:
        """Begin configuration again; nothing is sent before the next poll."""
        self.configured = False
        self.degraded = 0
        self._ready = False
        self._state = _PROBING
        self._tried = 0
        self._pads = 0
        self._since = now
        self._wait = 0
        self._heard = now
        self._bad = self._frames.bad

    def poll(self, now: int) -> int:
        """Advance; 1 when a sample can be read. Raises BusError."""
        if not self._ready:
            self._listen(now)
            if not self._ready and elapsed(now, self._since) >= self._wait:
                self._late(now)
        return 1 if self._ready else 0

    def read_into(self, buf: bytearray | memoryview, offset: int = 0) -> int:
        """Copy the sample into `buf`; returns RAW_SIZE. Allocates nothing."""
        buf[offset : offset + RAW_SIZE] = self._data
        self._ready = False
        return RAW_SIZE

    def trim(self) -> bytes:
        """MON-VER's software version (ASCII); empty before the receiver is configured."""
        return self.version if self.configured else b""

    # --- the line

    def _listen(self, now: int) -> None:
        """Takes what has come, up to the end of a NAV-PVT; the rest of the chunk is for the next poll."""
        frames = self._frames
        for _ in range(_CHUNKS):
            if self._next == self._count:
                self._next = self._count = 0
                count = self._uart.readinto(self._chunk) if self._uart.any() else 0
                if not count:
                    if elapsed(now, self._heard) > _PAUSE_MS:
                        frames.clear()
                    break
                self._count = count
                self._heard = now
            while self._next < self._count:
                byte = self._chunk[self._next]
                self._next += 1
                if frames.feed(byte):
                    self._take(now)
                    if self._ready:
                        return
        if frames.bad != self._bad:
            self._bad = frames.bad
            if self._state == _STREAMING:
                self._since = now  # it is there, and sends
                raise BusError(BAD_CHECKSUM)

    def _ask(self, now: int, state: int, message: bytes, wait: int) -> None:
        """Sends a request; what came before it is not its answer."""
        for _ in range(_CHUNKS):
            if not self._uart.any() or not self._uart.readinto(self._chunk):
                break
        self._next = self._count = 0
        self._frames.clear()
        self._bad = self._frames.bad
        self._uart.write(message)
        self._state = state
        self._pads = 0
        self._since = now
        self._wait = wait

    def _probe(self, now: int, state: int) -> None:
        """Asks for the version at the baud number `_at`, behind padding if it needs that."""
        baud = BAUDS[self._at]
        self._uart.init(baudrate=baud)
        self._tried += 1
        self._state = state
        self._pads = 1 if not self._hung else 2 if baud < 38400 else _PADS + 1
        self._pad(now)

    def _pad(self, now: int) -> None:
        """The next piece of padding, at the pace of the line, or behind the last one the question."""
        self._pads -= 1
        baud = BAUDS[self._at]
        if self._pads:
            self._uart.write(_PAD)
            self._since = now
            self._wait = _PAD_BITS // baud
        else:
            self._ask(now, self._state, _VERSION, _SLOW_REPLY_MS if baud < 38400 else _REPLY_MS)

    # --- the chain

    def _late(self, now: int) -> None:
        """What was waited for has not come."""
        state = self._state
        if self._pads:
            self._pad(now)
            return
        if state == _PROBING:
            if self._tried:
                self._at = (self._at + 1) % len(BAUDS)
            if self._tried < len(BAUDS):
                self._probe(now, _PROBING)
                return
        elif state == _CHANGING:  # its acknowledge may be lost with the change
            self._speed_up(now)
            return
        elif state == _SPEEDING and self._tried < 3:
            self._probe(now, _SPEEDING)
            return
        self._hung = state != _STREAMING
        self._give_up(now, TIME_OUT)

    def _give_up(self, now: int, code: int) -> None:
        self.start(now)
        raise BusError(code)

    def _speed_up(self, now: int) -> None:
        self._at = _FAST
        self._tried = 0
        self._probe(now, _SPEEDING)

    def _take(self, now: int) -> None:
        """One whole frame."""
        frames, state = self._frames, self._state
        kind = frames.kind
        if state == _STREAMING:
            if kind == ubx.NAV_PVT and frames.length == _PVT_SIZE:
                self._data[0:_PVT_SIZE] = frames.payload
                self._ready = True
                self._since = now
                self._wait = 2 * self.PERIOD_MS + _LATE_MS
        elif kind == ubx.MON_VER and frames.length >= _VERSION_SIZE:
            if state in (_PROBING, _SPEEDING):
                self._found(now)
        elif kind == ubx.CFG_VALGET and state == _COMPARING:
            self._compare(now)
        elif (kind == ubx.ACK_ACK or kind == ubx.ACK_NAK) and frames.length == _ACK_SIZE and frames.payload[0] == _CFG:
            self._answered(now, frames.payload[1], kind == ubx.ACK_ACK)

    def _found(self, now: int) -> None:
        self._hung = False
        self.version = bytes(self._frames.payload[:TRIM_SIZE]).split(b"\0")[0]
        if self._at == _FAST:
            self._ask(now, _COMPARING, ubx.valget(*[key for key, _ in self._settings]), _REPLY_MS)
        else:
            self._lost_power(now)
            self._ask(now, _CHANGING, _CHANGE, _REPLY_MS)

    def _compare(self, now: int) -> None:
        wanted = ubx.values(*self._settings)
        if self._frames.length == 4 + len(wanted) and self._frames.payload[4 : 4 + len(wanted)] == wanted:
            self._stream(now)
        else:
            self._lost_power(now)
            self._ask(now, _SETTING, ubx.valset(_ALL, *self._settings), _SET_MS)

    def _answered(self, now: int, identity: int, taken: bool) -> None:
        """An acknowledge, or a refusal, of class CFG."""
        state = self._state
        if identity == ubx.CFG_VALGET & 0xFF:
            if state == _COMPARING and not taken:
                self._give_up(now, WRONG_IDENTITY)
        elif identity == ubx.CFG_VALSET & 0xFF and state >= _CHANGING and state != _COMPARING:
            if state == _USB:
                self._ask(now, _KEEPING, _KEEP, _SET_MS)
            elif not taken:
                self._give_up(now, WRONG_IDENTITY)
            elif state == _CHANGING:
                self._speed_up(now)
            elif state == _SETTING:
                self._ask(now, _USB, _USB_OUT, _SET_MS)
            elif state == _KEEPING:
                self._stream(now)

    def _lost_power(self, now: int) -> None:
        """It is not as we left it: told once, then set up again."""
        if self._known:
            self._known = False
            self._give_up(now, POWER_ON_VALUES)

    def _stream(self, now: int) -> None:
        self.configured = True
        self._known = True
        self._state = _STREAMING
        self._since = now
        self._wait = self.PERIOD_MS + _FIRST_MS


def __getattr__(name: str) -> object:
    """What a message means (QUANTITIES, decode) is loaded when it is asked for: the head only moves bytes and needs its room."""
    if name not in __all__:
        raise AttributeError(name)
    from drivers import nav_pvt

    found: object = getattr(nav_pvt, name)
    globals()[name] = found
    return found
