"""The contract sweep's side on MicroPython: `contract_sweep.py MODULE CLASS OPTIONS WIRE SPEED STEPS` prints one line of JSON a step.

The truck's side (tests/support/contract_there.py) has the chip, sets it to each step's values and keeps the clock. Numbers go as the hex
of a double: nothing is rounded on the way."""

import json
import struct
import sys

import machine
import truck_wire as wire
import virtual_clock
from contract_reading import reading

_STEP = 202

_, module_name, kind, options, wire_name, speed, steps = sys.argv
__import__(module_name)
module = sys.modules[module_name]


def bus():
    if wire_name == "i2c":
        return machine.I2C(0, scl=machine.Pin(5), sda=machine.Pin(4), freq=400_000)
    return machine.UART(1, int(speed), tx=machine.Pin(8), rx=machine.Pin(9), rxbuf=256)


for step in range(int(steps)):
    wire.request[wire.BODY] = step
    wire.call(_STEP, 1)
    driver = getattr(module, kind)(bus(), **json.loads(options))
    values = reading(driver, module.decode, lambda ms: virtual_clock.advance(1000 * ms), wire_name)
    line = {}
    for name in values or ():
        value = values[name]
        line[name] = value if isinstance(value, str) else [struct.pack("<d", value).hex()]
    print(json.dumps(line))
