"""The keys by which a head is updated, as the doctor sees their files."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from doctor_machine import Trees, told
from gateway_recording import truck

from fleet import doctor_head_keys
from fleet.doctor import CHECKS
from fleet.doctor_finding import GREEN, GREY, RED, YELLOW
from gateway.config import Head, Truck


@pytest.fixture
def config(tmp_path: Path) -> Truck:
    """A truck whose head has its keys."""
    unit, image, password = (tmp_path / name for name in ("unit.key", "image-key.pem", "hub.password"))
    unit.write_bytes(b"k" * 32)
    password.write_text("secret")
    unit.chmod(0o600)
    image.write_bytes(Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    image.chmod(0o644)
    config = truck(tmp_path)
    hub = msgspec.structs.replace(config.hub, password_file=str(password))
    return msgspec.structs.replace(config, hub=hub, head=Head("/dev/no-head", str(unit), [str(image)]))


def seen(config: Truck, **head: object) -> dict[str, str]:
    assert config.head is not None
    config = msgspec.structs.replace(config, head=msgspec.structs.replace(config.head, **head))
    folder = Path(config.hub.password_file).parent
    return told(doctor_head_keys.check(Trees(folder / "machine").visit(config)))


def test_keys_that_are_well_are_green_and_a_head_without_any_is_no_fault(config: Truck, tmp_path: Path) -> None:
    assert seen(config) == {"head_keys_well": GREEN}
    assert seen(config, image_keys=[]) == {"head_image_key_none": GREY} and seen(config, unit_key="") == {"head_key_none": GREY}
    assert seen(config, unit_key="", image_keys=[]) == {}
    whole = told(CHECKS["head"](Trees(tmp_path / "machine").visit(config)))
    assert whole == {"port_absent": RED, "head_keys_well": GREEN}, "a check of the head as a whole"


def lose_unit(unit: Path, image: Path) -> None:
    unit.unlink()


def cut_unit(unit: Path, image: Path) -> None:
    unit.write_bytes(b"k" * 31)


def open_unit(unit: Path, image: Path) -> None:
    unit.chmod(0o640)


def lose_image(unit: Path, image: Path) -> None:
    image.unlink()


def spoil_image(unit: Path, image: Path) -> None:
    image.write_text("-----BEGIN PUBLIC KEY-----\n")


def open_image(unit: Path, image: Path) -> None:
    image.chmod(0o666)


@pytest.mark.parametrize(("spoil", "key", "todo"), [
    (lose_unit, "head_key_unreadable", "do_head_key"),
    (cut_unit, "head_key_size", "do_head_key"),
    (open_unit, "head_key_open", "do_password_mode"),
    (lose_image, "head_key_unreadable", "do_image_key"),
    (spoil_image, "head_image_key_bad", "do_image_key"),
    (open_image, "head_image_key_open", "do_image_key_mode"),
])  # fmt: skip
def test_a_key_that_is_not_as_it_should_be_is_yellow_with_what_to_do(
    config: Truck, tmp_path: Path, spoil: Callable[[Path, Path], None], key: str, todo: str
) -> None:
    spoil(tmp_path / "unit.key", tmp_path / "image-key.pem")
    (found,) = doctor_head_keys.check(Trees(tmp_path / "machine").visit(config))
    assert (found.saw.key, found.colour) == (key, YELLOW) and found.do is not None and found.do.key == todo


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_unit_key_of_another_owner_than_the_password_is_told(config: Truck, tmp_path: Path) -> None:
    os.chown(tmp_path / "unit.key", 12345, -1)
    (found,) = doctor_head_keys.check(Trees(tmp_path / "machine").visit(config))
    assert (found.saw.key, found.colour) == ("head_key_owner", YELLOW)
    assert found.do is not None and found.do.values == {"path": str(tmp_path / "unit.key"), "other": config.hub.password_file}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_unit_key_that_this_user_may_not_read_asks_for_sudo(config: Truck, tmp_path: Path) -> None:
    (tmp_path / "unit.key").chmod(0)
    (found,) = doctor_head_keys.check(Trees(tmp_path / "machine").visit(config))
    assert found.saw.key == "head_key_unreadable" and found.do is not None and found.do.key == "do_key_root"
