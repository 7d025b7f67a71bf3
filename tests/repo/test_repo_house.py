"""The house rules that a machine can check: hardware.md against the firmware, the lock, the two commands."""

import re
import subprocess
from pathlib import Path

from firmware import board, parts

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=30).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def table(heading: str) -> list[list[str]]:
    """The rows of the table under `## heading` in hardware.md."""
    section = (ROOT / "hardware.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_addresses_in_hardware_md_are_those_of_the_firmware() -> None:
    documented = {row[1]: (row[0], int(row[2], 16)) for row in table("Addresses on the head's buses")}
    assert documented == {
        name: (wire, address)
        for name, (_, _, wire, address, _) in parts.PARTS.items()
        if wire.startswith("I2C") and name in (*parts.STANDARD, "veml7700")
    }
    assert (f"I2C{board.I2C_MAIN[0]}", f"I2C{board.I2C_UV[0]}") == (parts.I2C0, parts.I2C1)


def test_the_pins_in_hardware_md_are_those_of_the_firmware() -> None:
    documented = {row[0]: int(row[1].removeprefix("GP")) for row in table("Pins of the Pico") if re.fullmatch(r"GP\d+", row[1])}
    firmware: dict[str, int] = {"PM power": board.POWER_PM}
    for number, sda, scl in (board.I2C_MAIN, board.I2C_UV):
        firmware |= {f"I2C{number} SDA": sda, f"I2C{number} SCL": scl}
    for number, tx, rx in (board.UART_PM, board.UART_GNSS):
        firmware |= {f"UART{number} TX": tx, f"UART{number} RX": rx}
    assert documented == firmware


def test_the_locks_carry_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-stubs.lock", "requirements-blinka.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        for requirement in re.split(r"\n(?=[a-z0-9])", text.strip()):
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def test_no_committed_file_names_an_address_of_a_registry() -> None:
    # split, so that this file does not name them either
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "deb." + "debian.org")
    found = [str(path) for path in tracked() for host in hosts if path.suffix != ".svg" and host in path.read_text(errors="ignore")]
    assert found == []


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_installing_does_nothing_when_everything_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", str(ROOT / "install-packages.sh"), "some-package:sh"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_installing_says_in_one_line_what_is_missing_where_there_is_no_apt(tmp_path: Path) -> None:
    for command in ("sh", "sort", "id"):
        (tmp_path / command).symlink_to(f"/usr/bin/{command}")
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "install-packages.sh"), "ejabberd:no-such-command"],
        capture_output=True, text=True, timeout=30, env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "install-packages: missing: ejabberd (no apt-get here: install them with this system's package tool)"
    ]
