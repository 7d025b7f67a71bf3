"""What NetworkManager knows of an interface: whether it is metered, and the name of its wireless network (D-Bus, system bus).

Asked is the device that carries the traffic to the hub, found by its interface's name (GetDeviceByIpIface of NetworkManager's D-Bus API),
and where that device is not sure (a tunnel over it), NetworkManager as a whole, which answers for the primary connection. "Guessed" counts
as known. Answers are kept until NetworkManager says that something changed, starts, or ends.

Limits: no bus, no NetworkManager, no answer within ASK_SECONDS: nothing is known, and it is tried again after RETRY_SECONDS. Nothing
here ever stops the uplink.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

NAME = "org.freedesktop.NetworkManager"
PATH = "/org/freedesktop/NetworkManager"
DEVICE, WIRELESS, ACCESS_POINT = f"{NAME}.Device", f"{NAME}.Device.Wireless", f"{NAME}.AccessPoint"
PROPERTIES = "org.freedesktop.DBus.Properties"
# NMMetered (NetworkManager 1.x): unknown 0, yes 1, no 2, guess-yes 3, guess-no 4.
METERED = {1: True, 2: False, 3: True, 4: False}
WIFI = 2  # NMDeviceType
ASK_SECONDS = 1.0
RETRY_SECONDS = 10.0
_MATCHES = (
    f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged'",
    f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'",
)


class Known(NamedTuple):
    """Of one interface: `metered` None = unknown; `ssid` None = not wireless, or unknown."""

    metered: bool | None = None
    ssid: str | None = None


class NetworkManager:
    """run() keeps the connection to the bus at `address` (None: the system bus); `on_change` is called whenever asking again may give
    another answer."""

    def __init__(self, on_change: Callable[[], None], address: str | None = None) -> None:
        self._on_change = on_change
        self._address = address
        self._bus: MessageBus | None = None
        self._known: dict[str, Known] = {}
        self.problem: str | None = "not yet connected to the system bus"

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        while True:
            bus: MessageBus | None = None
            try:
                bus = MessageBus(self._address, BusType.SYSTEM)
                async with asyncio.timeout(ASK_SECONDS):
                    await bus.connect()
                    for rule in _MATCHES:
                        await _call(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule)
                bus.add_message_handler(self._signal)
                self._bus, self.problem = bus, None
                self._changed()
                await bus.wait_for_disconnect()
                self.problem = "the system bus ended the connection"
            except (OSError, EOFError, TimeoutError, AuthError, DBusError, InvalidAddressError) as error:
                self.problem = f"system bus: {str(error) or type(error).__name__}"
            finally:
                self._bus = None
                self._changed()
                if bus is not None:
                    bus.disconnect()
            await asyncio.sleep(RETRY_SECONDS)

    async def of(self, interface: str) -> Known:
        """What is known of `interface`."""
        bus, answers = self._bus, self._known
        if interface in answers:
            return answers[interface]
        if bus is None:
            return Known()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                known = answers[interface] = await _ask(bus, interface)
        except (DBusError, EOFError, OSError, TimeoutError) as error:
            self.problem = f"NetworkManager: {str(error) or 'no answer'}"
            known = answers[interface] = Known()  # who asks every second does not wait for it every second
            asyncio.get_running_loop().call_later(RETRY_SECONDS, answers.pop, interface, None)
            return known
        self.problem = None
        return known

    def _signal(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member in ("PropertiesChanged", "NameOwnerChanged"):
            self._changed()

    def _changed(self) -> None:
        self._known = {}  # a new one: an answer that is under way now is not kept
        self._on_change()


async def _ask(bus: MessageBus, interface: str) -> Known:
    device = await _call(bus, NAME, PATH, NAME, "GetDeviceByIpIface", "s", interface)
    metered = METERED.get(await _get(bus, device, DEVICE, "Metered"))
    if metered is None:
        metered = METERED.get(await _get(bus, PATH, NAME, "Metered"))
    if await _get(bus, device, DEVICE, "DeviceType") != WIFI:
        return Known(metered)
    point = await _get(bus, device, WIRELESS, "ActiveAccessPoint")
    ssid = await _get(bus, point, ACCESS_POINT, "Ssid") if point != "/" else b""
    return Known(metered, bytes(ssid).decode("utf-8", "replace") or None)


async def _get(bus: MessageBus, path: str, interface: str, name: str) -> Any:
    found = await _call(bus, NAME, path, PROPERTIES, "Get", "ss", interface, name)
    return found.value if isinstance(found, Variant) else found


async def _call(bus: MessageBus, to: str, path: str, interface: str, member: str, signature: str, *arguments: str) -> Any:
    answer = await bus.call(
        Message(destination=to, path=path, interface=interface, member=member, signature=signature, body=list(arguments))
    )
    if answer.message_type is MessageType.ERROR:
        name = answer.error_name or "org.freedesktop.DBus.Error.Failed"
        raise DBusError(name, str(answer.body[0]) if answer.body else name)
    return answer.body[0] if answer.body else None
