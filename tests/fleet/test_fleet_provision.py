"""`cruisers provision` as typed: the folders it makes, and what is said when something is not possible. The hub's folder is real, the hub
does not run (tests/hub/test_hub_provisioned.py has one that does)."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from fleet import provision_files, tool_flash
from fleet.passport import Folder, Passport, fingerprint
from fleet.provision_head import default_passports
from fleet.tool_provision import command
from gateway.config import Head, Inputs, load
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
    done = CliRunner(env={"COLUMNS": "80", "XDG_STATE_HOME": "/nowhere"}).invoke(tool, [str(one) for one in arguments])
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
             "files": 18, "unit": None},
            {"truck": "truck-2", "folder": str(out / "truck-2"), "new_account": True, "devices": [],
             "files": 13, "unit": None},
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
    (["truck-1", "--input", "horn"], "'horn' is not one of bookmark, lid, ignition"),
    (["truck-1", "--passports", "nowhere"], "--passports nowhere: no such folder"),
    (["truck-1", "--image-key", "odd.toml"], "--image-key odd.toml: no public key in PEM form"),
    (["truck-1", "--image-key", "nowhere"], "nowhere: No such file"),
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


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def units(tmp_path) -> Folder:
    """A folder of `cruisers flash` with the head of truck-1."""
    folder = Folder(tmp_path / "units")
    flashed(folder, "e6614c311b7d4f2a", "truck-1", b"k" * 32)
    return folder


def flashed(folder: Folder, unit: str, truck: str, key: bytes) -> None:
    folder.keep_key(unit, key)
    folder.keep(Passport(unit, truck, "1.0.0", "micropython", {}, fingerprint(key), [], {}, "hana", "2026-11-28T00:00:00Z", "ntp", "?"))


def test_a_truck_gets_the_key_of_the_head_whose_passport_names_it_and_the_keys_of_images(home, tmp_path, units):
    signer = Ed25519PrivateKey.generate()
    (tmp_path / "signer.pem").write_bytes(public_pem(signer))
    (tmp_path / "fleet.csv").write_text("truck,head\ntruck-1,\ntruck-2,\ntruck-3,none\n")
    arguments = ("--out", tmp_path / "out", "--hub-home", home, *HOST, "--passports", units.path)
    code, said, err = typed("--fleet", tmp_path / "fleet.csv", *arguments, "--image-key", tmp_path / "signer.pem")
    assert code == 0 and "e6614c311b7d4f2a" in said and max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
    assert err == f"cruisers provision: no passport in {units.path} names truck-2: flash the head, then run this again\n"
    first, second, third = (
        load(tmp_path / f"out/{truck}/files/etc/cruisers/truck.toml").head for truck in ("truck-1", "truck-2", "truck-3")
    )
    assert first == Head("/dev/cruisers-head", "/etc/cruisers/unit.key", ["/etc/cruisers/image-key.pem"])
    assert second == Head("/dev/cruisers-head", "", ["/etc/cruisers/image-key.pem"]) and third is None
    files = tree(tmp_path / "out/truck-1/files/etc/cruisers")
    assert files["unit.key"] == (0o600, b"k" * 32) and files["image-key.pem"] == (0o644, public_pem(signer))
    assert "unit.key" not in tree(tmp_path / "out/truck-2/files/etc/cruisers")
    assert not [path for path in tree(tmp_path / "out/truck-3/files") if "head" in path or "key" in path]

    code, _, err = typed("truck-1", *arguments)
    assert (code, err) == (0, "cruisers provision: no --image-key: no truck will take an update for its head\n")
    assert load(tmp_path / "out/truck-1/files/etc/cruisers/truck.toml").head == Head("/dev/cruisers-head", "/etc/cruisers/unit.key")


def two_heads(folder: Folder) -> None:
    flashed(folder, "e6614c311b7d0000", "truck-1", b"l" * 32)


def lost_key(folder: Folder) -> None:
    (folder.path / "e6614c311b7d4f2a.key").unlink()


def other_key(folder: Folder) -> None:
    (folder.path / "e6614c311b7d4f2a.key").write_bytes(b"m" * 32)


def cut_key(folder: Folder) -> None:
    (folder.path / "e6614c311b7d4f2a.key").write_bytes(b"k" * 31)


def cut_passport(folder: Folder) -> None:
    flashed(folder, "e6614c311b7d0000", "truck-9", b"l" * 32)
    (folder.path / "e6614c311b7d0000.json").write_text("{")


@pytest.mark.parametrize(("spoil", "said"), [
    (two_heads, "name truck-1: e6614c311b7d0000.json, e6614c311b7d4f2a.json"),
    (lost_key, "e6614c311b7d4f2a.key is missing"),
    (other_key, "is not the key of its passport"),
    (cut_key, "not 32 bytes"),
    (cut_passport, "e6614c311b7d0000.json: makes no sense"),
])  # fmt: skip
def test_a_folder_of_passports_that_does_not_say_which_head_is_in_the_truck_is_refused_in_one_line(home, tmp_path, units, spoil, said):
    spoil(units)
    before = tree(tmp_path)
    code, out, err = typed("truck-1", "--out", tmp_path / "out", "--hub-home", home, *HOST, "--passports", units.path)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and said in err, err
    assert tree(tmp_path) == before


def test_a_private_key_never_goes_onto_a_truck(home, tmp_path):
    (tmp_path / "key.pem").write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    arguments = ("truck-1", "--out", tmp_path / "out", "--hub-home", home, *HOST, "--image-key", tmp_path / "key.pem")
    code, _, err = typed(*arguments)
    assert code == 2 and "no public key" in err and not (tmp_path / "out").exists()


def test_cruisers_flash_writes_passports_where_provision_looks_for_them():
    assert default_passports() == tool_flash._PASSPORTS


def test_the_switches_of_a_row_are_written_and_the_base_says_how_long_the_ignition_must_be_off(home, tmp_path):
    (tmp_path / "fleet.csv").write_text("truck,inputs\ntruck-1,ignition bookmark\ntruck-2,\n")
    (tmp_path / "base.toml").write_text("[inputs]\nignition_seconds = 9.0\n")
    arguments = ("--fleet", tmp_path / "fleet.csv", "--base", tmp_path / "base.toml", "--out", tmp_path / "out", "--hub-home", home)
    assert typed(*arguments, *HOST)[0] == 0
    first, second = (load(tmp_path / f"out/{truck}/files/etc/cruisers/truck.toml").inputs for truck in ("truck-1", "truck-2"))
    both = ["/dev/input/by-path/platform-button@11-event", "/dev/input/by-path/platform-button@16-event"]
    assert first == Inputs(both, bookmark=148, ignition=202, ignition_seconds=9.0) and second is None


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
