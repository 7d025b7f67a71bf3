"""`cruisers provision` beside a hub that runs: what is in the folder lets the truck in, and as nobody else."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner

from fleet.tool_provision import command
from gateway.config import load
from hub import changes
from sox.account import Hub
from sox.documents import device_document
from sox.errors import SoxError
from sox.nodes import data, meta

tool = typer.Typer()
tool.command()(command)


def typed(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(tool, [str(one) for one in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_what_is_in_the_folder_lets_the_truck_in_and_onto_its_own_nodes_only(hub, tmp_path):
    code, _, error = typed("provisioned-1", "--hub-home", hub.home, "--out", tmp_path)
    assert code == 2 and "give --hub-host" in error, "loopback is no address for a truck"
    arguments = ("provisioned-1", "--hub-home", hub.home, "--hub-host", hub.info["host"], "--out", tmp_path, "--carsensor", "77")
    code, said, _ = typed(*arguments, "--json")
    assert code == 0 and json.loads(said)["hub"] == {
        "domain": hub.info["domain"], "host": hub.info["host"], "port": hub.info["c2s_port"], "running": True,
    }  # fmt: skip
    files = tmp_path / "provisioned-1/files"
    said_to_pi = load(files / "etc/cruisers/truck.toml").hub
    on_pi = Hub(
        said_to_pi.domain, said_to_pi.host, said_to_pi.port, *(str(files) + path for path in (said_to_pi.ca_file, said_to_pi.password_file))
    )
    document = device_document("provisioned-1", [], name="provisioned-1")

    async def drive() -> None:
        truck = on_pi.client("provisioned-1")
        await truck.connect()
        try:
            await truck.publish(meta("provisioned-1"), "1", document)
            await truck.publish(meta("carsensor077"), "1", document)
            with pytest.raises(SoxError):
                await truck.publish(data("truck-1"), "1", document)
        finally:
            await truck.disconnect()

    asyncio.run(drive())
    password = (files / "etc/cruisers/hub.password").read_bytes()
    assert typed(*arguments)[0] == 0
    asyncio.run(drive())
    assert (files / "etc/cruisers/hub.password").read_bytes() == password
    assert asyncio.run(changes.revoke(hub.home, "provisioned-1"))  # other tests share this hub
