"""NetworkManager's answers, from a service of the test on a real bus (dbus-daemon). NetworkManager itself cannot run here: it needs root
on a machine's own network. Names, types and values are those of its D-Bus API."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from gateway_uplink_parts import until

from gateway.network_manager import ACCESS_POINT, DEVICE, NAME, PATH, PROPERTIES, WIRELESS, Known, NetworkManager

pytestmark = pytest.mark.timeout(60)

POINT = f"{PATH}/AccessPoint/7"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bus of our own."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    folder = tmp_path_factory.mktemp("bus")
    (folder / "bus.conf").write_text(
        f"<busconfig><type>system</type><listen>unix:path={folder}/socket</listen><auth>EXTERNAL</auth><policy context='default'>"
        "<allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy></busconfig>"
    )
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline(), "the bus did not start"
    yield f"unix:path={folder}/socket"
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(20)
    daemon.stdout.close()


class Service:
    """What a NetworkManager on that bus says: properties by (path, interface, name)."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.bus: MessageBus | None = None
        self.asked = 0
        self.silent = False
        self.interfaces = {"wwan0": f"{PATH}/Devices/1", "wlan0": f"{PATH}/Devices/2"}
        self.properties: dict[tuple[str, str, str], Variant] = {(PATH, NAME, "Metered"): Variant("u", 2)}
        for path, kind, metered in ((f"{PATH}/Devices/1", 8, 1), (f"{PATH}/Devices/2", 2, 4)):
            self.properties[path, DEVICE, "DeviceType"] = Variant("u", kind)
            self.properties[path, DEVICE, "Metered"] = Variant("u", metered)
        self.properties[f"{PATH}/Devices/2", WIRELESS, "ActiveAccessPoint"] = Variant("o", POINT)
        self.properties[POINT, ACCESS_POINT, "Ssid"] = Variant("ay", "depot-南".encode())

    async def start(self) -> None:
        self.bus = await MessageBus(self._address, BusType.SYSTEM).connect()
        self.bus.add_message_handler(self._answer)
        await self.bus.request_name(NAME)

    def stop(self) -> None:
        if self.bus is not None:
            self.bus.disconnect()

    def change(self, path: str, interface: str, name: str, value: Variant) -> None:
        self.properties[path, interface, name] = value
        assert self.bus is not None
        self.bus.send(Message.new_signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, {name: value}, []]))

    def _answer(self, message: Message) -> Message | bool:
        if message.message_type is not MessageType.METHOD_CALL or not str(message.path).startswith(PATH):
            return False
        self.asked += 1
        if self.silent:
            return True
        if message.member == "GetDeviceByIpIface" and message.body[0] in self.interfaces:
            return Message.new_method_return(message, "o", [self.interfaces[message.body[0]]])
        found = self.properties.get((str(message.path), *message.body)) if message.member == "Get" else None
        if found is None:
            return Message.new_error(message, f"{NAME}.UnknownDevice", "No device found for the requested iface.")
        return Message.new_method_return(message, "v", [found])


@pytest.fixture
async def service(address: str) -> AsyncIterator[Service]:
    service = Service(address)
    await service.start()
    yield service
    service.stop()


class Asking:
    """A NetworkManager client that runs, and its news."""

    def __init__(self, address: str) -> None:
        self.news = 0
        self.manager = NetworkManager(self._told, address)
        self.task = asyncio.create_task(self.manager.run())

    def _told(self) -> None:
        self.news += 1

    async def until(self, interface: str, known: Known) -> None:
        async with asyncio.timeout(20):
            while await self.manager.of(interface) != known:  # noqa: ASYNC110  what a service says has no event
                await asyncio.sleep(0.01)


@pytest.fixture
async def asking(address: str) -> AsyncIterator[Asking]:
    asking = Asking(address)
    yield asking
    asking.task.cancel()
    await asyncio.gather(asking.task, return_exceptions=True)


async def test_the_device_of_the_interface_says_whether_it_is_metered_and_its_access_point_the_ssid(
    service: Service, asking: Asking
) -> None:
    await asking.until("wwan0", Known(metered=True))
    await asking.until("wlan0", Known(metered=False, ssid="depot-南"))
    assert await asking.manager.of("lo") == Known() and "No device found" in (asking.manager.problem or "")
    asked = service.asked
    await asking.manager.of("wlan0")
    assert service.asked == asked, "nothing changed: nothing is asked again"


async def test_a_device_that_does_not_know_is_answered_for_by_the_primary_connection(service: Service, asking: Asking) -> None:
    service.properties[f"{PATH}/Devices/1", DEVICE, "Metered"] = Variant("u", 0)
    await asking.until("wwan0", Known(metered=False))
    service.change(PATH, NAME, "Metered", Variant("u", 0))
    await asking.until("wwan0", Known())


async def test_a_change_is_told_at_once(service: Service, asking: Asking) -> None:
    await asking.until("wlan0", Known(metered=False, ssid="depot-南"))
    before = asking.news
    service.change(f"{PATH}/Devices/2", DEVICE, "Metered", Variant("u", 3))
    await asking.until("wlan0", Known(metered=True, ssid="depot-南"))
    service.change(f"{PATH}/Devices/2", WIRELESS, "ActiveAccessPoint", Variant("o", "/"))
    await asking.until("wlan0", Known(metered=True))
    assert asking.news >= before + 2


async def test_a_network_manager_that_ends_is_unknown_and_one_that_starts_is_asked(address: str, asking: Asking) -> None:
    first, second = Service(address), Service(address)
    await first.start()
    await asking.until("wwan0", Known(metered=True))
    first.stop()
    await asking.until("wwan0", Known())
    await second.start()
    await asking.until("wwan0", Known(metered=True))
    second.stop()


async def test_a_network_manager_that_does_not_answer_holds_nothing_up_for_long(
    service: Service, asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.network_manager.ASK_SECONDS", 0.2)
    await asking.until("wwan0", Known(metered=True))
    service.silent = True
    service.change(PATH, NAME, "Metered", Variant("u", 1))
    await asking.until("wwan0", Known())
    assert "no answer" in (asking.manager.problem or "")


async def test_without_a_bus_nothing_is_known_and_it_is_said(tmp_path: Path) -> None:
    asking = Asking(f"unix:path={tmp_path}/nowhere")
    await until(lambda: "No such file" in (asking.manager.problem or ""))
    assert await asking.manager.of("wwan0") == Known()
    asking.task.cancel()
    await asyncio.gather(asking.task, return_exceptions=True)
