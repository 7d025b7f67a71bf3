"""The truck's side of the contract sweep on MicroPython: a chip of any part behind the simulated wires, in virtual time."""

import json
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence

from both_interpreters import BIN, HEAP, REPO
from chip_bench import steady
from parts import Part
from virtual_head import NOW, SHIM, VIRTUAL, WAIT

from sim.bus import I2CBus, UartLine
from sim.busserver import BusServer
from sim.clock import Clock

STEP = 202
LIMIT_S = 100  # real seconds for one part


class _NoControl:
    """No watchdog, no reset: these checks have no head."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the sweep asked for {name}")


class _Server(BusServer):
    """Wires whose chip is made anew for each step."""

    def __init__(self, part: Part, worlds: Sequence[Mapping[str, float]]) -> None:
        self._part = part
        self._worlds = worlds
        self._us = 0
        self._clock_us = Clock(lambda: self._us * 1000)
        self._bus = I2CBus((), self._clock_us)
        self._line = UartLine(self._chip(0), self._clock_us, part.speed or 115_200)
        i2c, uart = ({(0, 4, 5): self._bus}, {}) if part.wire == "i2c" else ({}, {(1, 8, 9): self._line})
        super().__init__(i2c, uart, _NoControl())  # type: ignore[arg-type]

    def _chip(self, step: int):  # type: ignore[no-untyped-def]
        return self._part.chip(steady(self._worlds[step]), lambda sensor, t_us, values: None)

    def _answer(self, connection, operation, body):  # type: ignore[no-untyped-def]
        if operation == WAIT:
            self._us += int.from_bytes(body[:4], "little")
            return struct.pack("<BH", 0, 0)
        if operation == NOW:
            return struct.pack("<BHQ", 0, 8, self._us)
        if operation == STEP:
            chip = self._chip(body[0])
            if self._part.wire == "i2c":
                self._bus.chips = {chip.address: chip}
            else:
                self._line.chip = chip
            self._bus.advance()
            return struct.pack("<BH", 0, 0)
        answer = super()._answer(connection, operation, body)
        if operation == 2 and answer is not None and answer[0] == 0:  # an I2C transfer takes its time
            self._us += 25 * (2 + len(body) - 5 + int.from_bytes(body[3:5], "little"))
        return answer


def readings(part: Part, worlds: Sequence[Mapping[str, float]]) -> list[dict[str, float | str]]:
    """What the driver of `part` on MicroPython decodes in each of `worlds`."""
    server = _Server(part, worlds)
    server.start()
    environment = dict(os.environ, MICROPYPATH=f"{VIRTUAL}:{SHIM}:{REPO}:.frozen", CRUISERS_TRUCK_PORT=str(server.port))
    arguments = [part.module, part.kind, part.options_json(), part.wire, str(part.speed), str(len(worlds))]
    command = [str(BIN / "micropython"), "-X", f"heapsize={HEAP}", str(VIRTUAL / "contract_sweep.py"), *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    finally:
        server.stop()
    assert done.returncode == 0 and server.error is None, f"{done.stdout[-500:]}{done.stderr[-2000:]} {server.error!r}"
    return [
        {
            name: value if isinstance(value, str) else struct.unpack("<d", bytes.fromhex(value[0]))[0]
            for name, value in json.loads(line).items()
        }
        for line in done.stdout.splitlines()
    ]
