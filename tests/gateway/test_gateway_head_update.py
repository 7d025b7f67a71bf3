"""`cruisers head update`: a head of the real MicroPython, brought up to date over its running serial line, refused, cut and taken back.

What is flashed is a small program (tests/support/flash_rig.py). The ignition is a file whose ioctls this test answers as evdev does."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flash_rig import plan, units
from flash_rig import program as small_program
from gateway_recording import Bench, wait_for
from typer.testing import CliRunner

import gateway.inputs
from cruisers.__main__ import app
from fleet import flash_unit, image
from gateway import head_duty, head_reach, head_repl, head_update
from gateway.clock import boottime_ns
from gateway.convert import Converter
from gateway.head import HeadLink
from gateway.head_duty import Duty
from gateway.head_image import Image
from gateway.head_log import HeadLog
from gateway.head_update import InputError, Updated, UpdateFailed
from sim.unit import Trouble, Unit

pytestmark = pytest.mark.timeout(120)

IGNITION = 202
EVIOCGKEY_96, EVIOCGBIT_KEY_96 = 0x80604518, 0x80604521  # linux/input.h as a C compiler gives it (x86-64)
OTHER_CONTENT = ("poller.poll(1000)", "poller.poll(999)")
SLOT = (
    ("\nSENSORS = ", "\nSTARTED = []\nSENSORS = "),
    ("    given[-1]()\n", "    STARTED.append(given[0])\n    given[-1]()\n"),
    ('"unique_id": unit', '"slot": STARTED[0], "unique_id": unit'),
)
SICK = ("number, OK, 0, 0", "number, OK if number != 3 else 4, 1, 0")
HEARD_BY_A_RECORDER = (
    ("7, 0, 0, 0)", "BOOT, 0, 0, 0)"),
    ("import json\n", "import json\nimport os\n"),
    ("\n\ndef _say", '\nBOOT = int.from_bytes(os.urandom(3), "little") + 1\n\n\ndef _say'),
    ('"unique_id": unit}', '"unique_id": unit, "oldest": 0, "newest": 0, "reset_cause": "watchdog"}'),
    ("def _obey(kind):\n", "def _obey(kind, ping):\n    if kind == 0x82:\n        _say(0x03, ping)\n"),
    ("_obey(buffer[0])", "_obey(buffer[0], bytes(buffer[HEADER_SIZE : HEADER_SIZE + 8]))"),
)


def program(version: str, *changes: tuple[str, str]) -> Image:
    """The small program, which says its slot as the real one does."""
    return small_program(version, *changes, *SLOT)


@dataclass
class Truck:
    """A truck with a head that runs 1.0.0, and what an update of it needs."""

    unit: Unit
    folder: Path
    signer: Ed25519PrivateKey
    newest: int = 0

    def newer(self) -> str:
        """A version that no test has used."""
        self.newest += 1
        return f"1.{self.newest}.0"

    def file(self, wanted: Image, signer: Ed25519PrivateKey | None = None) -> Path:
        path = self.folder / "head.image"
        path.write_bytes(image.build(wanted, signer or self.signer))
        return path

    def config(self, **changes: str) -> Path:
        """The truck's TOML file; `changes` are lines, or none, instead of its own."""
        lines = {
            "port": f'port = "{self.unit.link}"',
            "unit_key": f'unit_key = "{self.folder / "passports" / "e6614c311b7d4f00.key"}"',
            "image_keys": f'image_keys = ["{self.folder / "image.pem"}"]',
            "inputs": f'[inputs]\ndevices = ["{self.folder / "ignition"}"]\nignition = {IGNITION}',
        } | changes
        path = self.folder / "truck.toml"
        path.write_text(
            f'name = "truck-001"\nspool = "{self.folder / "spool"}"\nlive_socket = "{self.folder / "live.sock"}"\n'
            '[hub]\ndomain = "d"\nhost = "h"\nport = 5222\nca_file = "c"\npassword_file = "p"\n[head]\n' + "\n".join(lines.values())
        )
        return path

    def bring(self, wanted: Image, report: Callable[[str, float], None] = lambda stage, part: None, **options: bool) -> Updated:
        """In this process."""
        asked = head_update.request(self.file(wanted), self.config(), **({"downgrade": False, "parked": False} | options))
        return head_update.work(asked, report)

    @property
    def known(self) -> Path:
        """What the Pi keeps of its head."""
        return self.folder / "spool" / head_update.KNOWN

    def runs(self) -> str:
        """What the head says that it runs."""
        with head_reach.on_duty(str(self.unit.link), "e6614c311b7d4f00") as head:
            return str((head.hello(head_reach.REACH_S) or {}).get("firmware"))


@pytest.fixture(scope="module")
def truck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truck]:
    folder = tmp_path_factory.mktemp("update")
    signer = Ed25519PrivateKey.generate()
    (folder / "image.pem").write_bytes(signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "ignition").touch()
    with units(folder, 1) as (unit,):
        flash_unit.run(plan(unit, folder / "passports"))
        yield Truck(unit, folder, signer)


@pytest.fixture(autouse=True)
def ignition(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The keys that are pressed: none, the truck is parked."""
    pressed: set[int] = set()

    def ioctl(_fd: int, request: int, answer: bytearray) -> int:
        for code in {EVIOCGKEY_96: pressed, EVIOCGBIT_KEY_96: {IGNITION}}[request]:
            answer[code >> 3] |= 1 << (code & 7)
        return len(answer)

    monkeypatch.setattr(gateway.inputs, "ioctl", ioctl)
    for module in (head_repl, head_reach):
        monkeypatch.setattr(module, "RESET_S", 0.1)  # a port that is not gone by then is only looked at again
    return pressed


def test_a_running_head_is_updated_and_proved_and_the_same_again_does_not_even_reset_it(truck: Truck) -> None:
    before, version = truck.runs(), truck.newer()
    call = ["head", "update", str(truck.file(program(version))), "--config", str(truck.config())]
    done = CliRunner().invoke(app, [*call, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["outcome"], said["unit"], said["before"], said["version"]) == ("updated", "e6614c311b7d4f00", before, version)
    assert truck.runs() == version
    flash, starts = truck.unit.flash.read_bytes(), truck.unit.starts
    again = CliRunner().invoke(app, call)
    assert (again.exit_code, again.stdout) == (
        0, f"unit e6614c311b7d4f00: up to date with {version}, nothing written (known without a reset)\n",
    )  # fmt: skip
    assert (truck.unit.flash.read_bytes(), truck.unit.starts) == (flash, starts)
    truck.known.unlink()
    hashed = truck.bring(program(version))
    assert (hashed.written, hashed.reset) == (0, True)
    assert truck.unit.flash.read_bytes() == flash


def test_what_may_not_be_on_this_head_is_refused_in_one_line_and_nothing_on_its_flash_changes(truck: Truck) -> None:
    if not truck.known.exists():
        truck.bring(program(truck.newer()))
    runs = truck.runs()
    flash, starts = truck.unit.flash.read_bytes(), truck.unit.starts
    (truck.folder / "short.key").write_bytes(b"x")

    def refused(wanted: Path, why: str, **changes: str) -> None:
        done = CliRunner().invoke(app, ["head", "update", str(wanted), "--config", str(truck.config(**changes))])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert why in done.stderr

    newer = program(truck.newer())
    refused(truck.file(newer, Ed25519PrivateKey.generate()), "not signed by a key that is trusted here")
    refused(truck.folder / "truck.toml", "no image, or a damaged one")
    refused(truck.folder / "none", "none: No such file or directory")
    refused(truck.file(newer), "no image_keys", image_keys="")
    refused(truck.file(newer), "no unit_key", unit_key="")
    refused(truck.file(newer), "none.key: No such file or directory", unit_key=f'unit_key = "{truck.folder}/none.key"')
    refused(truck.file(newer), "short.key: not the 32 bytes", unit_key=f'unit_key = "{truck.folder}/short.key"')
    refused(truck.file(program("0.9.0")), f"version 0.9.0 is older than {runs} on the head")
    refused(truck.file(program(runs, OTHER_CONTENT)), f"version {runs} is on the head with other content")
    assert truck.unit.starts == starts  # up to here it was not even reset
    truck.known.unlink()
    with pytest.raises(InputError, match=f"version {runs} is on the head with other content"):
        truck.bring(program(runs, OTHER_CONTENT))
    assert truck.runs() == runs
    asked = head_update.request(truck.file(newer), truck.config(), downgrade=False, parked=False)
    with pytest.raises(InputError, match=r"other\.key: not the key of unit e6614c311b7d4f00"):
        head_update.work(replace(asked, key=bytes(32), key_file="other.key"), lambda stage, part: None)
    assert truck.runs() == runs
    assert truck.unit.flash.read_bytes() == flash


def test_a_truck_that_works_or_may_do_so_is_left_alone(truck: Truck, ignition: set[int]) -> None:
    starts = truck.unit.starts

    def not_now(why: str, *words: str, **changes: str) -> None:
        done = CliRunner().invoke(
            app, ["head", "update", str(truck.file(program("1.999.0"))), "--config", str(truck.config(**changes)), *words]
        )  # fmt: skip
        assert (done.exit_code, done.stderr.count("\n")) == (3, 1), done.output
        assert done.stderr.startswith("cruisers head update: not now: ") and why in done.stderr

    with Duty(str(truck.unit.link)):  # locks it, as the recorder does
        not_now("is in use")
        not_now("is in use", "--parked", inputs="")
    not_now("say --parked", inputs="")
    ignition.add(IGNITION)
    not_now("the ignition is on", "--parked")
    assert truck.unit.starts == starts


def test_after_a_power_cut_the_old_version_runs_and_a_second_run_completes(truck: Truck) -> None:
    before, version = truck.runs(), truck.newer()
    truck.unit.arm(Trouble(cut=6_000))
    with pytest.raises(UpdateFailed):
        truck.bring(program(version))
    truck.unit.power_on()
    assert truck.runs() == before
    assert truck.bring(program(version)).version == version
    assert truck.runs() == version


def test_a_version_under_which_a_sensor_is_not_well_is_taken_back_at_once(truck: Truck, monkeypatch: pytest.MonkeyPatch) -> None:
    before = truck.runs()
    monkeypatch.setattr(head_duty, "SELF_TEST_S", 0.5)
    with pytest.raises(UpdateFailed, match="sht45: "):
        truck.bring(program(truck.newer(), SICK))
    assert truck.runs() == before


def test_a_recorder_that_starts_meanwhile_finds_the_port_busy_then_delivers_and_reports_the_restart(truck: Truck, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = boottime_ns()

    def link() -> tuple[HeadLink, threading.Event, threading.Thread]:
        log = HeadLog(bench.journal, bench.snapshot, bench.clock, Converter(), since_ns=before)
        made, stop = HeadLink(str(truck.unit.link), log, bench.journal, bench.snapshot, {}), threading.Event()
        thread = threading.Thread(target=made.run, args=(stop,), daemon=True)
        thread.start()
        return made, stop, thread

    def state() -> dict[str, str]:
        return bench.snapshot.build()["sensors"].get("head", {})

    seen: list[str] = []

    def meanwhile(stage: str, part: float) -> None:
        if stage == "write" and not seen:
            _, stop, thread = link()
            wait_for(state, "the busy port being noticed")
            seen.append(state()["reason"])
            stop.set()
            thread.join()

    version = truck.newer()
    assert truck.bring(program(version, *HEARD_BY_A_RECORDER), meanwhile).version == version
    assert "Could not exclusively lock port" in seen[0]
    _, stop, thread = link()
    wait_for(lambda: state().get("state") == "ok", "the head at the recorder")
    stop.set()
    thread.join()
    recording = bench.close()
    assert [gap.reason for gap in recording.gaps("head")] == ["head restarted (watchdog)"]
    assert json.loads(recording.events("head_identity")[0].detail)["firmware"] == version
