"""The 7-bit I2C addresses each part can be strapped to, and which of them two parts would fight for on one bus.

Addresses: facts/sensors-and-head.md 1.0 and 1.4, and the data sheets (OPT3001: pin ADDR to GND, VDD, SDA, SCL; ICM-20948: AD0; BMP390: SDO;
AS7331: A1 A0; the SHT45's are order variants of the part; SPS30 and VEML7700 have one). A part on a UART takes none; a GNSS receiver could
(0x42), but none of ours is wired so."""

# Default first. The drivers' own defaults are the same; tests hold them together.
LEGAL = {
    "icm20948": (0x68, 0x69),
    "bmp390": (0x77, 0x76),
    "sht45": (0x44, 0x45, 0x46),
    "opt3001": (0x45, 0x44, 0x46, 0x47),
    "as7331": (0x74, 0x75, 0x76, 0x77),
    "sps30": (0x69,),
    "veml7700": (0x10,),
}


def illegal(part: str, address: int) -> str:
    """Why `part` cannot sit at `address`, in one line; "" if it can."""
    if part not in LEGAL:
        return f"{part} is not a part with an I2C address (known: {', '.join(sorted(LEGAL))})"
    if address not in LEGAL[part]:
        return f"{part} cannot sit at 0x{address:02x}, only at {', '.join([f'0x{legal:02x}' for legal in LEGAL[part]])}"
    return ""


def clash(parts: "list[tuple[str, int, int]]") -> str:
    """The first two of `parts` (part, bus number, address) that sit at one address of one bus, in one line; "" if none do.

    Says so too when a part is put where it cannot be strapped to."""
    seen: dict[tuple[int, int], str] = {}
    for part, bus, address in parts:
        fault = illegal(part, address)
        if fault:
            return fault
        place = (bus, address)
        if place in seen:
            return f"{seen[place]} and {part} clash on I2C bus {bus}: both at 0x{address:02x}"
        seen[place] = part
    return ""
