"""AKM AK09916, the magnetometer inside the ICM-20948, set up through that chip's own I2C master (bank 3, slave 4; read out by slave 0).

Registers: SparkFun AK09916_REGISTERS.h, Zephyr ak09916.c. It runs at its own 100 Hz; ST1 says whether a sample is new, and ST2 must be
read to free the next one, so nine bytes from ST1 to ST2 are read in every cycle. After a reset of the head it may not answer until the I2C
master is reset (SparkFun startupMagnetometer tries ten times).

The way inside the chip has no check either: the mode is read back (another rate, or a self-test, would look like samples)."""

from drivers.icm20948_registers import Kept, Registers
from drivers.portable import const, elapsed

_READ = const(0x8C)  # address 0x0C, to read
_WRITE = const(0x0C)
_WIA2 = const(0x01)
_ST1 = const(0x10)
_CNTL2 = const(0x31)
_CNTL3 = const(0x32)
_IDENTITY = const(0x09)
_100_HZ = const(0x08)

# Of the ICM-20948
_USER_CTRL = const(0x03)
_MASTER_RESET = const(0x02)
_I2C_MST_STATUS = const(0x17)
_DONE = const(0x40)
_DONE_OR_NACK = const(0x50)
_SLAVE_0_NACK = const(0x01)
_BANK_3 = const(0x30)
_MST_ODR = const(0x00)  # and MST_CTRL, DELAY_CTRL, SLV0 ADDR, REG, CTRL, DO behind it
_MST_CTRL = const(0x01)
_MASTER_CLOCK = const(0x17)  # 345.6 kHz, a stop between reads
_SLV0_ADDR = const(0x03)
_NINE_BYTES = const(0x89)  # and enabled
_SLV4_ADDR = const(0x13)
_SLV4_DI = const(0x17)

_TRIES = const(10)
_TRANSFER_MS = const(50)
_ASK, _ASKED, _RESETTING, _SETTING, _LOOKING = range(5)


class AK09916:
    """The magnetometer behind the chip of these registers; each method selects the bank that it needs."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self._slave_0 = Kept(registers, _BANK_3, _MST_ODR, 7)
        self.start()

    def start(self) -> None:
        """Forget all state."""
        self._state = _ASK
        self._since = 0
        self._tries = 0

    def configure(self, now: int) -> int:
        """One step: 0 not ready yet, 1 it runs at 100 Hz, -1 it does not answer. Bus errors pass through."""
        if self._state == _ASK:
            self._transfer(_READ, _WIA2, 0)
            self._go(now, _ASKED)
            return 0
        self._registers.select(0)
        status = self._registers.read(_I2C_MST_STATUS)
        if not status & _DONE_OR_NACK and elapsed(now, self._since) <= _TRANSFER_MS:
            return 0
        heard = status & _DONE_OR_NACK == _DONE
        if heard and self._state == _ASKED:
            heard = self._answer() == _IDENTITY
        elif heard and self._state == _LOOKING:
            heard = self._answer() == _100_HZ
        if not heard:
            return self._again(now)
        if self._state == _ASKED:
            self._transfer(_WRITE, _CNTL3, 0x01)  # soft reset
            self._go(now, _RESETTING)
        elif self._state == _RESETTING:
            self._transfer(_WRITE, _CNTL2, _100_HZ)
            self._go(now, _SETTING)
        elif self._state == _SETTING:
            self._transfer(_READ, _CNTL2, 0)
            self._go(now, _LOOKING)
        else:
            return 1
        return 0

    def note_power_on(self) -> None:
        """Keep the power-on values of the registers that `intact` compares, after a reset of the host."""
        self._slave_0.note()

    def begin_reading(self) -> None:
        """Slave 0: nine bytes, ST1 to ST2, in every cycle of the host."""
        kept = self._slave_0
        kept.put(_MST_CTRL, _MASTER_CLOCK)
        kept.put(_SLV0_ADDR, _READ)
        kept.put(_SLV0_ADDR + 1, _ST1)
        kept.put(_SLV0_ADDR + 2, _NINE_BYTES)

    def intact(self) -> bool:
        """Whether the I2C master and slave 0 are still set as `begin_reading` did. Allocates nothing."""
        return self._slave_0.intact()

    def answered(self) -> bool:
        """Whether it acknowledged in every cycle since it was asked last, or a transfer ended. Allocates nothing."""
        self._registers.select(0)
        return not self._registers.read(_I2C_MST_STATUS) & _SLAVE_0_NACK

    def _go(self, now: int, state: int) -> None:
        self._state = state
        self._since = now

    def _again(self, now: int) -> int:
        self._tries += 1
        if self._tries >= _TRIES:
            return -1
        registers = self._registers
        registers.select(0)
        registers.write(_USER_CTRL, registers.read(_USER_CTRL) | _MASTER_RESET)  # of the I2C master alone: all else goes on
        self._go(now, _ASK)
        return 0

    def _answer(self) -> int:
        self._registers.select(_BANK_3)
        return self._registers.read(_SLV4_DI)

    def _transfer(self, address: int, register: int, value: int) -> None:
        registers = self._registers
        registers.select(_BANK_3)
        registers.write(_MST_CTRL, _MASTER_CLOCK)
        registers.write(_SLV4_ADDR, address)
        registers.write(_SLV4_ADDR + 1, register)
        registers.write(_SLV4_ADDR + 3, value)
        registers.write(_SLV4_ADDR + 2, 0x80)  # begin
