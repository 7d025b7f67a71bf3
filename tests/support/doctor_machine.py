"""A machine for the doctor: file trees as the kernel's /sys and /proc, and commands of others as real programs on a PATH of the test."""

from pathlib import Path

from fleet.doctor_finding import Finding
from fleet.doctor_machine import Machine
from fleet.doctor_visit import Visit
from gateway.config import Truck


class Trees:
    """`machine` looks at `folder`/sys, `folder`/proc and `folder`/bin alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sys", "proc/self", "bin"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.machine = Machine(folder / "sys", folder / "proc", str(folder / "bin"))
        self.mount()

    def visit(self, truck: Truck) -> Visit:
        """A visit at this machine."""
        return Visit(truck, self.machine)

    def sys(self, path: str, content: str) -> None:
        """A file of /sys."""
        file = self.folder / "sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")

    def command(self, name: str, out: str = "", code: int = 0, err: str = "", seconds: float = 0) -> None:
        """A program that answers so, whatever it is asked."""
        (self.folder / "bin" / f"{name}.out").write_text(out)
        (self.folder / "bin" / f"{name}.err").write_text(err)
        program = self.folder / "bin" / name
        wait = f"exec /bin/sleep {seconds}\n" if seconds else ""
        program.write_text(f'#!/bin/sh\n{wait}/bin/cat "$0.out"; /bin/cat "$0.err" >&2; exit {code}\n')
        program.chmod(0o755)

    def mount(self, options: str = "rw,noatime", kind: str = "ext4", super_options: str = "rw", number: str = "8:1") -> None:
        """What the test's folder is mounted on."""
        line = f"30 1 {number} / {self.folder} {options} shared:1 - {kind} /dev/sda1 {super_options}\n"
        (self.folder / "proc/self/mountinfo").write_text("1 0 0:1 / / rw - rootfs rootfs rw\nno line of the kernel\n" + line)

    def disk(self, name: str, number: str, where: str = "pci0000:00/host0", partition: str = "", **files: str) -> None:
        """A disk in /sys; `files` by their paths in its folder, `__` for /."""
        folder = f"devices/{where}/block/{name}"
        for path, content in files.items():
            self.sys(f"{folder}/{path.replace('__', '/')}", content)
        if partition:
            self.sys(f"{folder}/{partition}/partition", "1")
        link = self.folder / "sys/dev/block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.folder / "sys" / folder / partition)


def told(findings: list[Finding]) -> dict[str, str]:
    """{key: colour}."""
    return {finding.saw.key: finding.colour for finding in findings}
