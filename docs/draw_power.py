"""Draws docs/power-and-data.svg, one truck's power and data with the figures of hardware.md: python docs/draw_power.py."""

from draw_shapes import SOFT, box, frame, save, sheet, table, text, wire


def draw() -> str:
    """The block diagram as SVG text."""
    names = {row[2].split()[0].strip("[]"): row[0] for row in table("Names on the Pi")}
    pin = {row[0]: f"{row[1]} (pin {row[2]})" for row in table("Pins of the Pi")}
    budget = {row[0]: row[2] for row in table("Current budget")}
    stop = table("Hold-up")[-1][1].strip("*")
    bank = next(row[2] for row in table("Bill of materials") if row[1] == "hold-up bank").split(",")[0]
    total = int(budget["**sum**"].strip("*")) / 1000
    body = frame(20, 52, 180, 500, "truck", "truck, 24 V")
    body += box(40, 86, 140, 54, "none", "terminal 30", "battery +, always on")
    body += box(40, 320, 140, 54, "none", "terminal 15", "ignition")
    body += box(40, 470, 140, 54, "none", "terminal 31", "frame, one point")
    body += frame(220, 52, 640, 500, "gateway", "gateway box, in the cab")
    # power, from left to right
    body += box(240, 86, 100, 54, "power", "F1, 5 A", "within 0.3 m")
    body += box(368, 86, 136, 54, "power", "surge stopper", "202 V in, 60 V out")
    body += box(532, 86, 130, 54, "power", "converter", "18–75 V to 5 V, 8 A")
    body += box(690, 76, 150, 74, "power", "hold-up bank", bank, f"{stop} s to stop")
    for start, end in ((180, 238), (340, 366), (504, 530), (662, 688)):
        body.append(wire(f"M{start} 113H{end}", "red" if end < 600 else "orange", 3))
    body += box(240, 320, 100, 54, "power", "F2, 1 A")
    body += box(368, 320, 136, 54, "power", "optocoupler", "never 24 V on a pin")
    body.append(wire("M180 347H238", "violet"))
    body.append(wire("M340 347H366", "violet"))
    body.append(wire("M180 497H218", "black", 3))
    body.append(text(232, 536, "one ground for both boxes", 12, SOFT))
    # the Pi and its neighbours
    body += box(
        560,
        236,
        190,
        130,
        "gateway",
        "Raspberry Pi",
        "recorder, uplink, sweeper",
        f"PPS {pin['PPS']}",
        f"ignition {pin['ignition']}",
        f"power fail {pin['power fail']}",
    )
    body.append(wire("M504 347H558", "violet"))
    body.append(wire("M704 150V234", "orange", 3))
    body.append(text(694, 200, f"5 V, {total:.1f} A typical", 12, SOFT, "end"))
    body.append(wire("M734 150V234", "yellow"))
    body.append(text(741, 200, "power fail", 12, SOFT))
    body.append(wire("M818 150V430", "orange", 3))
    body += box(260, 430, 150, 70, "gateway", "SSD", "1.92 TB, power-loss", "protection")
    body += box(560, 432, 270, 66, "gateway", "powered USB hub", "feeds SSD, receiver, camera, modem", "never back into the Pi")
    body.append(wire("M655 366V430", "none"))
    body.append(wire("M560 465H412", "none"))
    # around it
    body += frame(20, 580, 406, 296, "head", "head, on the roof")
    body += box(40, 616, 150, 70, "head", "Pico", "samples, frames,", "20 s ring")
    body += box(228, 612, 182, 50, "head", "I2C0", "IMU, barometer, RH/T, lux")
    body += box(228, 676, 182, 50, "head", "I2C1", "UV-A, UV-B, UV-C")
    body += box(228, 740, 182, 50, "head", "UART", "particles; 5 V, switched")
    body += box(40, 802, 200, 64, "none", "3.3 V of the Pico", "ICM-20948: VDDIO 1.8 V", "made on its breakout")
    body.append(wire("M190 640H226", "blue"))
    body.append(wire("M190 655H214V701H226", "blue"))
    body.append(wire("M190 670H202V765H226", "green"))
    body.append(wire("M115 686V800", "red", 3))
    body.append(wire("M560 290H536V570H170V614", "none", 3))
    body.append(text(480, 564, f"USB, 3 m: {names['head']}", 12, SOFT, "end"))
    body += box(470, 616, 160, 70, "gateway", "receiver", "NEO-M9N, antenna", names["gpsd"])
    body += box(650, 616, 120, 70, "gateway", "camera", "MJPEG, 1080p")
    body += box(790, 616, 120, 70, "gateway", "modem", "LTE")
    body.append(wire("M590 498V614", "none"))
    body.append(wire("M710 498V614", "none"))
    body.append(wire("M822 498V614", "none"))
    body.append(wire("M490 616V400H575V368", "green"))
    body.append(text(482, 420, "PPS", 12, SOFT, "end"))
    body += box(650, 740, 260, 62, "city", "hub and center of the city", "Sensor-over-XMPP, TLS")
    body.append(wire("M850 686V738", "none", dashed=True))
    # legend
    for x, colour, words in (
        (470, "red", "24 V; on the head 3.3 V"),
        (650, "orange", "5 V"),
        (720, "violet", "ignition"),
        (812, "none", "data, USB"),
    ):
        body.append(wire(f"M{x} 842H{x + 24}", colour, 3, arrow=False))
        body.append(text(x + 30, 846, words, 11, SOFT))
    return sheet(930, 890, "Power and data of one truck", "電源とデータの流れ", body)


if __name__ == "__main__":
    save("power-and-data.svg", draw())
