"""`cruisers provision` as typed: the folders it makes, and what is said when something is not possible. The hub's folder is real, the hub
does not run (tests/hub/test_hub_provisioned.py has one that does)."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fleet import provision_files
from fleet.tool_provision import command
from gateway.config import load
from hub import certificates, rights

HOST = ("--hub-domain", "cruisers.test", "--hub-host", "hub.city.example")
tool = typer.Typer()
tool.command()(command)


@pytest.fixture(scope="module")
def hub_home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("hub")
    (home / "secrets").mkdir(mode=0o700)
    certificates.ensure(home / "tls", "cruisers.test", "127.0.0.1")
    return home


@pytest.fixture
def home(hub_home, tmp_path) -> Path:
    return Path(shutil.copytree(hub_home, tmp_path / "hub"))


def typed(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(tool, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) for path in files}


BASE = """
shrink = "huffman"
[uplink]
images = "depot"
[[uplink.rules]]
link = "depot"
ssid = "depot-*"
[[cameras]]
name = "front"
width = 1280
height = 720
[[depots]]
name = "south"
latitude = 35.3192
longitude = 139.467
"""


def test_a_city_gets_a_folder_a_truck_and_every_configuration_is_read_by_the_gateway(home, tmp_path):
    (tmp_path / "fleet.csv").write_text("truck,carsensor,cameras,gps,pps\ntruck-1,7,front,usb,yes\ntruck-2,,rear,none,\n")
    (tmp_path / "base.toml").write_text(BASE)
    out = tmp_path / "out"
    arguments = ("--fleet", tmp_path / "fleet.csv", "--base", tmp_path / "base.toml", "--out", out, "--hub-home", home, *HOST)
    code, said, _ = typed(*arguments, "--json")
    assert code == 0
    assert json.loads(said) == {
        "hub": {"domain": "cruisers.test", "host": "hub.city.example", "port": 5222, "running": False},
        "trucks": [
            {"truck": "truck-1", "folder": str(out / "truck-1"), "new_account": True, "devices": ["carsensor007", "carsensor007_100Hz"],
             "files": 15},
            {"truck": "truck-2", "folder": str(out / "truck-2"), "new_account": True, "devices": [], "files": 10},
        ],
    }  # fmt: skip
    first, second = (load(out / truck / "files/etc/cruisers/truck.toml") for truck in ("truck-1", "truck-2"))
    assert (first.hub.host, first.hub.port, first.uplink.carsensor, first.uplink.images) == ("hub.city.example", 5222, 7, "depot")
    assert (first.cameras[0].source, first.cameras[0].width) == ("/dev/cruisers-camera-front", 1280)
    assert (second.cameras[0].width, second.gpsd, second.shrink, second.depots[0].name) == (1920, None, "huffman", "south")
    assert rights.read(home).devices == {"carsensor007": "truck-1", "carsensor007_100Hz": "truck-1"}
    for truck in ("truck-1", "truck-2"):
        mode, password = tree(out / truck)["files/etc/cruisers/hub.password"]
        assert (mode, password) == (0o600, (home / "secrets" / truck).read_bytes()) and len(password) > 20
        assert stat.S_IMODE((out / truck).stat().st_mode) == 0o700

    before = tree(out)
    code, said, _ = typed(*arguments)
    assert code == 0 and tree(out) == before, "a truck that is there keeps its password"
    assert said.count(" kept ") == 2 and " new " not in said and "does not run" in said
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "which truck?"),
    (["Truck_1"], "'Truck_1'"),
    (["truck-1", "--camera", "a", "--camera", "b"], "each needs its port"),
    (["truck-1", "--fleet", "fleet.csv"], "truck stand in its lines"),
    (["--fleet", "fleet.csv"], "fleet.csv: No such file"),
    (["truck-1", "--base", "own.toml"], "hub: written for each truck"),
    (["truck-1", "--base", "odd.toml"], "truck-1: Object contains unknown field"),
    (["truck-1", "--base", "flat.toml", "--carsensor", "1"], "truck-1: the base"),
    (["truck-1", "--base", "bus.toml"], "[head] and [bus]"),
    (["truck-1", "--base", "broken.toml"], "broken.toml: "),
    (["truck-1", "--carsensor", "9"], "carsensor009 is written by truck-9"),
    (["truck-1", "--ca", "odd.toml"], "no certificate in PEM"),
    (["truck-1", "--out", "odd.toml"], "no folder that can be written to"),
    (["truck-1", "--out", "others"], "was not made by this command"),
    (["truck-1", "--hub-home", "nowhere"], "cruisers hub start"),
    (["truck-1", "--hub-host", ""], "--hub-domain and --hub-host"),
])  # fmt: skip
def test_what_cannot_be_is_one_line_and_makes_nothing(home, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text("[hub]\n")
    Path("odd.toml").write_text("wheels = 6\n")
    Path("flat.toml").write_text("uplink = 1\n")
    Path("bus.toml").write_text('[bus]\ni2c = "/dev/i2c-1"\n')
    Path("broken.toml").write_text("=\n")
    (tmp_path / "others/truck-1").mkdir(parents=True)
    with rights.changing(home) as given:
        given.devices["carsensor009"] = "truck-9"
    before = tree(tmp_path)
    code, out, err = typed(*HOST, "--out", "out", "--hub-home", home, *arguments)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1, err
    assert err.startswith("cruisers provision: ") and said in err
    assert tree(tmp_path) == before and not Path("out").exists()


def test_every_bad_line_of_a_list_is_told_and_nothing_is_made(home, tmp_path):
    (tmp_path / "fleet.csv").write_text("truck,cameras\nok-1,\nBad,\nok-2,a b\n")
    before = tree(tmp_path)
    code, out, err = typed("--fleet", tmp_path / "fleet.csv", "--out", tmp_path / "out", "--hub-home", home, *HOST)
    assert (code, out) == (2, "") and [line.split(":")[2] for line in err.splitlines()] == ["3", "4"]
    assert tree(tmp_path) == before and not (tmp_path / "out").exists()


def test_a_folder_is_whole_or_as_it_was_wherever_writing_breaks_off(home, tmp_path, monkeypatch):
    arguments = ("truck-1", "--out", tmp_path / "out", "--hub-home", home, *HOST)
    assert typed(*arguments)[0] == 0
    whole = tree(tmp_path / "out")
    real, calls = os.fsync, []

    def fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 5:
            raise OSError(28, "No space left on device", "the disk")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    code, _, err = typed(*arguments, "--camera", "front")
    assert (code, err) == (2, "cruisers provision: the disk: No space left on device\n")
    assert tree(tmp_path / "out") == whole
    monkeypatch.setattr(os, "fsync", real)
    (tmp_path / "out/truck-1").rename(tmp_path / "out/.truck-1.old")  # as a power cut leaves it
    (tmp_path / "out/.truck-1.new/files").mkdir(parents=True)
    assert typed(*arguments)[0] == 0 and tree(tmp_path / "out") == whole and len(list((tmp_path / "out").iterdir())) == 1


def test_rules_name_each_camera_by_its_port_and_the_receiver_by_its_kind():
    from fleet.provision_plan import plan

    both = provision_files.rules(plan({"truck": "t", "cameras": "front@1-1.2 rear@1-1.3 net=http://192.0.2.7/", "gps": "ttyAMA0"}))
    assert 'KERNELS=="1-1.2", SYMLINK+="cruisers-camera-front"' in both and 'KERNELS=="1-1.3", SYMLINK+="cruisers-camera-rear"' in both
    assert 'KERNEL=="ttyAMA0"' in both and "net" not in both and 'SYMLINK+="cruisers-head"' in both
    bare = provision_files.rules(plan({"truck": "t", "head": "none", "gps": "none"}))
    assert "SYMLINK" not in bare
