"""The doctor at a real hub (ejabberd): what a truck may do there is found without publishing anything."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doctor_machine import Trees, told
from gateway_recording import truck

from fleet import doctor_hub
from fleet.doctor_finding import GREEN, RED, YELLOW
from gateway.config import Truck
from hub import certificates
from sox.account import Hub as Address
from sox.nodes import channel, data

WELL, POOR = "truck-1", "truck-4"  # the second is of this file alone: rights that were taken leave traces on its nodes


def of(hub: Any, name: str, folder: Path, **changes: Any) -> Truck:
    """A truck of this hub."""
    password = folder / "hub.password"
    password.write_text(Path(hub.info["secrets"], name).read_text("ascii"))
    password.chmod(0o600)
    address = Address(hub.info["domain"], hub.info["host"], hub.info["c2s_port"], hub.info["ca_file"], str(password))
    return msgspec.structs.replace(truck(folder), name=name, hub=msgspec.structs.replace(address, **changes))


def findings(config: Truck, folder: Path) -> dict[str, str]:
    return told(doctor_hub.check(Trees(folder / "machine").visit(config)))


def test_a_truck_with_all_its_rights_is_green_and_publishes_nothing(hub: Any, tmp_path: Path) -> None:
    before = asyncio.run(items(hub, WELL))
    assert findings(of(hub, WELL, tmp_path), tmp_path) == {
        "hub_certificate": GREEN, "hub_logged_in": GREEN, "hub_rights": GREEN, "hub_reads": GREEN, "hub_takes": GREEN,
    }  # fmt: skip
    assert asyncio.run(items(hub, WELL)) == before


async def items(hub: Any, name: str) -> list[Any]:
    """What stands on the truck's nodes."""
    center = hub.client("center")
    await center.connect()
    try:
        return [[item_id for item_id, _ in await center.items(node)] for node in (data(name), data(channel(name, "segments")))]
    finally:
        await center.disconnect()


@pytest.fixture
def taken(hub: Any) -> Iterator[list[str]]:
    """Two nodes on which the truck has no rights while the test runs."""
    had = {data(POOR): "publisher", data(channel(POOR, "receipts")): "member"}

    async def give(rights: dict[str, str]) -> None:
        admin = hub.client("admin")
        await admin.connect()
        try:
            for node, right in rights.items():
                await admin.set_affiliations(node, {f"{POOR}@{hub.info['domain']}": right})
        finally:
            await admin.disconnect()

    asyncio.run(give(dict.fromkeys(had, "none")))
    yield list(had)
    asyncio.run(give(had))  # other tests share this hub


def test_rights_that_were_taken_are_named(hub: Any, taken: list[str], tmp_path: Path) -> None:
    found = doctor_hub.check(Trees(tmp_path / "machine").visit(of(hub, POOR, tmp_path)))
    assert told(found)["hub_rights_lack"] == RED and told(found)["hub_reads_not"] == RED
    lacking = next(finding for finding in found if finding.saw.key == "hub_rights_lack").saw.values
    assert lacking["names"] == ", ".join(taken) and lacking["count"] == 2


def test_a_wrong_password_a_lost_file_and_an_open_file_are_told(hub: Any, tmp_path: Path) -> None:
    config = of(hub, WELL, tmp_path)
    password = Path(config.hub.password_file)
    password.chmod(0o644)
    assert findings(config, tmp_path)["hub_password_open"] == YELLOW
    password.write_text("not this one")
    assert findings(config, tmp_path)["hub_login"] == RED
    password.unlink()
    assert findings(config, tmp_path) == {"hub_certificate": GREEN, "hub_no_password": RED}


def test_another_authority_and_another_domain_are_not_trusted(hub: Any, tmp_path: Path) -> None:
    other = certificates.ensure(tmp_path / "tls", "hub.test", "127.0.0.1")
    assert findings(of(hub, WELL, tmp_path, ca_file=str(other.ca)), tmp_path) == {"hub_untrusted": RED}
    assert findings(of(hub, WELL, tmp_path, domain="example.com"), tmp_path) in ({"hub_untrusted": RED}, {"hub_no_tls": RED})
    assert findings(of(hub, WELL, tmp_path, ca_file=str(tmp_path / "none.pem")), tmp_path) == {"hub_ca_file": RED}
