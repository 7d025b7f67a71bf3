"""`install.sh` and the units, run and read by what runs and reads them on a truck: sh, systemd-analyze, systemd-sysusers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.provision import _replace, _write
from fleet.provision_files import Hub, bundle
from fleet.provision_head import NO_KEYS, Keys
from fleet.provision_inputs import SWITCHES, overlay
from fleet.provision_plan import plan

DUTIES = ("recorder", "uplink", "sweeper")
SERVICES = [f"cruisers-{duty}.service" for duty in DUTIES]
UPDATE = [f"cruisers-head-update.{kind}" for kind in ("path", "service", "timer")]
HUB = Hub("cruisers.test", "hub.city.example", 5222, b"a certificate\n")
FULL = {"truck": "truck-1", "cameras": "front", "pps": "yes", "carsensor": "7", "inputs": "bookmark lid ignition"}
KEYS = Keys("e6614c311b7d4f2a", b"k" * 32, (b"a key of images\n",))


def made(folder: Path, **cells: str) -> Path:
    """The folder of a truck."""
    one = plan({**FULL, **cells})
    folder.mkdir(exist_ok=True)
    _write(folder / f".{one.truck}.new", bundle(one, HUB, {}, b"a password", KEYS if one.head else NO_KEYS))
    _replace(folder / one.truck)
    return folder / one.truck


def ran(*command: object, **settings: str) -> tuple[int, str, str]:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **settings})
    return done.returncode, done.stdout, done.stderr


def installed(bundle: Path, root: Path, *arguments: str) -> tuple[int, str, str]:
    return ran("sh", bundle / "install.sh", *arguments, DESTDIR=str(root))


def tree(root: Path) -> dict[str, object]:
    """Everything under `root`: mode, owner, and content or target."""
    found: dict[str, object] = {}
    for path in root.rglob("*"):
        what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (path.lstat().st_mode, path.lstat().st_uid, what)
    return found


CONFIG = "arm_64bit=1\n[pi4]\nfoo=1\n"


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """The folder of a truck with everything, which no test changes."""
    return made(tmp_path_factory.mktemp("full"))


@pytest.fixture
def truck(full, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(full, tmp_path / "out/truck-1"))


@pytest.fixture(scope="module")
def installed_once(full, tmp_path_factory) -> Path:
    """A Pi on which it was installed, which no test changes."""
    there = pi(tmp_path_factory.mktemp("pi"))
    assert installed(full, there)[0] == 0
    return there


@pytest.fixture
def whole(installed_once, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(installed_once, tmp_path / "whole", symlinks=True))


@pytest.fixture
def root(tmp_path) -> Path:
    """A Pi on which nothing was installed."""
    return pi(tmp_path)


def pi(folder: Path) -> Path:
    """A Pi's files, as far as install.sh looks at them."""
    there = folder / "root"
    (there / "boot/firmware").mkdir(parents=True)
    (there / "boot/firmware/config.txt").write_text(CONFIG)
    (there / "etc/default").mkdir(parents=True)
    (there / "etc/default/gpsd").write_text('USBAUTO="true"\n')
    return there


def test_a_second_run_leaves_the_same_tree_and_says_that_nothing_changed(root, full):
    code, said, _ = installed(full, root)
    assert code == 0 and said.endswith(f"truck-1: 26 changed under {root}\n") and "needs a reboot" in said
    first = tree(root)
    assert installed(full, root) == (0, f"install: truck-1: 0 changed under {root}\n", "")
    assert tree(root) == first
    lines = ["dtoverlay=pps-gpio,gpiopin=18", *map(overlay, SWITCHES)]
    assert (root / "boot/firmware/config.txt").read_text() == block(*lines)
    assert (root / "etc/default/gpsd.before-cruisers").read_text() == 'USBAUTO="true"\n'
    for secret in ("hub.password", "unit.key"):
        assert (root / "etc/cruisers" / secret).stat().st_mode & 0o777 == 0o600
    assert os.readlink(root / "usr/local/bin/cruisers") == "/opt/cruisers/.venv/bin/cruisers"
    wanted = {folder.name: sorted(os.listdir(folder)) for folder in (root / "etc/systemd/system").glob("*.wants")}
    assert wanted == {
        "multi-user.target.wants": [*sorted(SERVICES), "gpsd.service"], "paths.target.wants": UPDATE[:1], "timers.target.wants": UPDATE[2:],
    }  # fmt: skip


def block(*lines: str, before: str = CONFIG + "\n", after: str = "") -> str:
    """config.txt with our block in it."""
    ours = "".join(f"{line}\n" for line in ("# cruisers: install.sh made this, and makes it anew", "[all]", *lines, "# cruisers: end"))
    return before + ours + after


def test_the_block_in_config_txt_is_replaced_where_it_stands_and_no_pin_gets_two_overlays(root, full, tmp_path):
    config = root / "boot/firmware/config.txt"
    config.write_text(f"arm_64bit=1\n{overlay('ignition')}\r\nfoo=1\n")  # as hardware.md once had it done by hand
    some = {"inputs": "ignition", "pps": "no"}
    assert installed(made(tmp_path / "out", **some), root)[0] == 0
    above = "arm_64bit=1\nfoo=1\n\n"
    assert config.read_text() == block(overlay("ignition"), before=above)
    with config.open("a") as more:
        more.write("[pi5]\nbar=1\n")
    assert installed(made(tmp_path / "out", **some), root)[1] == f"install: truck-1: 0 changed under {root}\n"
    assert installed(made(tmp_path / "out", pps="no"), root)[0] == 0
    assert config.read_text() == block(*map(overlay, SWITCHES), before=above, after="[pi5]\nbar=1\n")
    assert installed(made(tmp_path / "out", pps="no", inputs=""), root)[0] == 0
    assert config.read_text() == block(before=above, after="[pi5]\nbar=1\n")
    config.write_text(config.read_text().replace("# cruisers: end\n", ""))
    before = tree(root)
    code, said, error = installed(full, root)
    assert (code, said) == (2, "") and "by hand" in error and len(error.splitlines()) == 1 and tree(root) == before


def test_a_machine_without_switches_and_pulse_keeps_its_config_txt(root, full, tmp_path):
    config = root / "boot/firmware/config.txt"
    config.write_text("no end of the line")
    assert installed(made(tmp_path / "out", pps="no", inputs=""), root)[0] == 0
    assert config.read_text() == "no end of the line"
    config.unlink()
    code, said, _ = installed(full, root)
    assert code == 0 and "this machine needs in another way: dtoverlay=pps-gpio" in said


def test_wherever_a_run_is_killed_the_next_one_ends_with_the_same_tree(root, full, installed_once, tmp_path):
    script = (full / "install.sh").read_text()
    for step in ("mv -f", "ln -sfn"):
        root_of_step = tmp_path / step.replace(" ", "")
        shutil.copytree(root, root_of_step)
        fakes = tmp_path / "fakes"
        fakes.mkdir(exist_ok=True)
        word = step.split()[0]
        real = shutil.which(word)
        count = tmp_path / f"count-{word}"
        fake = fakes / word
        fake.write_text(f'#!/bin/sh\necho >> {count}\n[ "$(wc -l < {count})" -ne 3 ] || kill -9 $PPID\nexec {real} "$@"\n')
        fake.chmod(0o755)
        assert step in script
        killed, _, _ = ran("sh", full / "install.sh", DESTDIR=str(root_of_step), PATH=f"{fakes}:{os.environ['PATH']}")
        fake.unlink()
        assert killed == -9
        assert installed(full, root_of_step)[0] == 0 and tree(root_of_step) == tree(installed_once), step


def test_a_truck_that_lost_its_receiver_or_its_head_loses_what_was_for_it(installed_once, whole, tmp_path):
    assert installed(made(tmp_path / "out", gps="none", pps="no"), whole)[0] == 0
    assert set(tree(installed_once)) - set(tree(whole)) == {
        "etc/systemd/system/gpsd.service.d/cruisers.conf", "etc/systemd/system/chrony.service.d/cruisers.conf",
        "etc/chrony/conf.d/cruisers.conf", "etc/cruisers/chrony-pps.conf", "etc/systemd/system/multi-user.target.wants/gpsd.service",
    }  # fmt: skip
    headless = tmp_path / "headless"
    shutil.copytree(installed_once, headless, symlinks=True)
    assert installed(made(tmp_path / "out", head="none"), headless)[0] == 0
    assert set(tree(installed_once)) - set(tree(headless)) == {
        *(f"etc/systemd/system/{unit}" for unit in UPDATE), "etc/systemd/system/paths.target.wants/cruisers-head-update.path",
        "etc/systemd/system/timers.target.wants/cruisers-head-update.timer", "etc/cruisers/unit.key", "etc/cruisers/image-key.pem",
    }  # fmt: skip


def spoil_file(truck: Path) -> None:
    (truck / "files/etc/cruisers/truck.toml").write_text('name = "truck-1"\n')


def lose_file(truck: Path) -> None:
    (truck / "files/etc/cruisers/ca.pem").unlink()


def cut_sums(truck: Path) -> None:
    lines = (truck / "SHA256SUMS").read_text().splitlines(keepends=True)
    (truck / "SHA256SUMS").write_text("".join(lines[:4]))


def lose_sums(truck: Path) -> None:
    (truck / "SHA256SUMS").unlink()


def change_script(truck: Path) -> None:
    with (truck / "install.sh").open("a") as script:
        script.write("# more\n")


@pytest.mark.parametrize("spoil", [spoil_file, lose_file, cut_sums, lose_sums, change_script])
def test_what_was_copied_in_part_is_refused_in_one_line_and_changes_nothing(root, truck, spoil):
    spoil(truck)
    before = tree(root)
    code, said, error = installed(truck, root)
    assert (code, said) == (2, "") and len(error.splitlines()) == 1 and "half-done" in error, error
    assert tree(root) == before


def test_a_script_that_was_copied_in_part_does_nothing(root, truck):
    script = (truck / "install.sh").read_bytes()
    before = tree(root)
    for part in range(1, 20):
        (truck / "install.sh").write_bytes(script[: len(script) * part // 20])
        installed(truck, root)
        assert tree(root) == before, part


def test_another_trucks_machine_is_not_taken_over_by_mistake(whole, tmp_path):
    other = made(tmp_path / "out", truck="truck-2")
    before = tree(whole)
    code, _, error = installed(other, whole)
    assert code == 2 and "not truck-2" in error and "--replace" in error and len(error.splitlines()) == 1 and tree(whole) == before
    assert installed(other, whole, "--replace")[0] == 0
    assert 'name = "truck-2"' in (whole / "etc/cruisers/truck.toml").read_text()
    assert installed(other, whole, "--now")[0] == 2


@pytest.fixture
def bare_machine(whole) -> Path:
    """What was installed, with Debian's units, and programs for the units to name."""
    units = Path("/lib/systemd/system")
    if shutil.which("systemd-analyze") is None or not units.is_dir():
        pytest.skip("systemd is not installed: its judgement of the units is missing")
    shutil.copytree(units, whole / "usr/lib/systemd/system", symlinks=True)
    (whole / "lib").symlink_to("usr/lib")
    for program in ("opt/cruisers/.venv/bin/python", "opt/cruisers/.venv/bin/cruisers", "usr/bin/test", "usr/sbin/gpsd", "bin/sh"):
        (whole / program).parent.mkdir(parents=True, exist_ok=True)
        (whole / program).write_text("#!/bin/sh\n")
        (whole / program).chmod(0o755)
    return whole


def test_systemd_finds_nothing_to_say_about_the_units(bare_machine):
    there = [unit for unit in ("gpsd.service", "chrony.service") if (bare_machine / "usr/lib/systemd/system" / unit).exists()]
    verify = ("systemd-analyze", "--man=no", f"--root={bare_machine}", "verify", *SERVICES, *UPDATE, *there)
    assert ran(*verify) == (0, "", "")
    for bad in ("ExecStart=/opt/nothing\n", "ProtectSystm=strict\n"):  # it does look
        with (bare_machine / "etc/systemd/system" / SERVICES[0]).open("a") as unit:
            unit.write(f"[Service]\n{bad}")
        assert SERVICES[0] in ran(*verify)[2]


@pytest.mark.parametrize("duty", DUTIES)
def test_a_unit_is_watched_and_shut_in(full, duty):
    text = (full / f"files/etc/systemd/system/cruisers-{duty}.service").read_text()
    for line in (
        "Type=notify", "User=cruisers", "ProtectSystem=strict", "PrivateTmp=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=",
        "Restart=always", "StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=yes",
    ):  # fmt: skip
        assert f"\n{line}\n" in text, line
    watched = int(text.partition("\nWatchdogSec=")[2].split()[0])
    assert watched >= 60 and f"-m gateway.{duty} /etc/cruisers/truck.toml" in text
    assert ("PrivateDevices=yes" in text) == (duty != "recorder") and ("DeviceAllow=char-ttyACM rw" in text) == (duty == "recorder")


def test_the_update_of_a_head_is_shut_in_as_the_recorder_and_waits_where_the_truck_works(full):
    folder = full / "files/etc/systemd/system"
    units = {unit: (folder / unit).read_text() for unit in (*SERVICES, *UPDATE)}
    update = units["cruisers-head-update.service"].splitlines()
    shut = {line for line in units["cruisers-recorder.service"].splitlines() if line.startswith(("Protect", "Restrict", "SystemCall"))}
    assert shut - set(update) == {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"}
    assert {"Type=oneshot", "SuccessExitStatus=3", "User=cruisers", "DeviceAllow=char-ttyACM rw", "NoNewPrivileges=yes"} <= set(update)
    image = "/var/lib/cruisers/head.image"
    program = f"ExecStart=/opt/cruisers/.venv/bin/cruisers head update {image} --config /etc/cruisers/truck.toml"
    assert program in update and not [line for line in update if line.startswith(("Restart=", "Condition"))]
    assert f"PathChanged={image}" in units["cruisers-head-update.path"].splitlines()  # PathExists= would look at it without end
    assert "m cruisers dialout" in (full / "files/etc/sysusers.d/cruisers.conf").read_text()


LIVE = """
set -eu
mkdir -p {root}/usr/local
for folder in etc opt boot usr/local; do mount --bind {root}/$folder /$folder; done
PATH={fakes}:$PATH
sh {truck}/install.sh; echo; mv {log} {log}.1
sh {truck}/install.sh; mv {log} {log}.2
: > /etc/cruisers/.unfinished
chown root:root /etc/cruisers/unit.key  # as DESTDIR leaves it on a card
sh {truck}/install.sh; mv {log} {log}.3
stat -c '%U %a' /etc/cruisers/hub.password /etc/cruisers/unit.key
id -nG cruisers
"""


def test_on_the_machine_itself_it_makes_the_user_starts_the_services_and_a_second_run_disturbs_none(root, full, tmp_path):
    """In mounts of its own: this machine's /etc is not touched. systemctl and udevadm only write down what they are asked."""
    if os.geteuid() != 0 or ran("unshare", "--mount", "true")[0] or shutil.which("systemd-sysusers") is None:
        pytest.skip("needs root, mount namespaces and systemd-sysusers")
    if not all(Path(f"/{name}").is_dir() for name in ("opt", "boot")):
        pytest.skip("no /opt or /boot to mount on")
    for name in ("passwd", "group", "shadow", "gshadow", "nsswitch.conf"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), root / "etc" / name)
    if Path("/etc/alternatives/awk").exists():
        (root / "etc/alternatives").mkdir()
        (root / "etc/alternatives/awk").symlink_to(Path("/etc/alternatives/awk").resolve())
    fakes, log = tmp_path / "fakes", tmp_path / "log"
    fakes.mkdir()
    python = root / "opt/cruisers/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("")
    python.chmod(0o755)
    for name in ("systemctl", "udevadm", "chronyd", "gpsd"):
        (fakes / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n')
        (fakes / name).chmod(0o755)
    code, said, error = ran("unshare", "--mount", "sh", "-c", LIVE.format(root=root, fakes=fakes, truck=full, log=log))
    assert code == 0 and all(line.startswith("Creating ") for line in error.splitlines()), error
    *owners, groups = said.splitlines()[-3:]
    assert owners == ["cruisers 600"] * 2 and set(groups.split()) == {"cruisers", "dialout", "video", "input", "i2c"}
    asked = [Path(f"{log}.{run}").read_text().splitlines() for run in (1, 2, 3)]
    order = [f"cruisers-{duty}.service" for duty in ("uplink", "recorder", "sweeper")]
    fresh = [
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=tty --subsystem-match=video4linux --settle",
        "systemctl daemon-reload",
        *(f"systemctl restart {unit}" for unit in ("chrony.service", "gpsd.service", *order, UPDATE[0], UPDATE[2])),
    ]
    assert asked[0] == fresh
    assert asked[1] == [fresh[0], fresh[2], *(f"systemctl start {unit}" for unit in (*order, UPDATE[0], UPDATE[2]))]
    assert asked[2] == fresh, "a run that broke off is taken up whole"


def test_a_machine_without_the_program_is_refused_before_anything_is_changed(full):
    if os.geteuid() == 0 and Path("/opt/cruisers").exists():
        pytest.skip("this machine is a truck")
    code, said, error = ran("sh", full / "install.sh", DESTDIR="")
    assert (code, said) == (2, "") and len(error.splitlines()) == 1
    assert not Path("/etc/cruisers").exists()
