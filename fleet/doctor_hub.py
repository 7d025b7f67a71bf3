"""The hub as this truck reaches it: name, address, certificate, login, and its rights, without publishing anything.

Rights are asked as everybody may ask their own (XEP-0060, 5.7); beside that, the truck's own queue is read and the hub's limits are
asked. The login is a second session beside the uplink's, which the hub allows (hub/limits.py, TRUCK_SESSIONS)."""

import asyncio
import os
import socket
import stat
from ipaddress import ip_address
from xml.etree import ElementTree as ET

from fleet.doctor_finding import Finding, green, red, say, yellow
from fleet.doctor_tls import EXPIRED, NOT_YET_VALID, NoTls, Untrusted, shown
from fleet.doctor_visit import Visit
from sox.account import Hub
from sox.client import PUBSUB, SoxClient
from sox.errors import SoxError
from sox.limits import limits
from sox.nodes import CENTER_WRITES, CHANNELS, channel, data, meta

LOGIN_SECONDS = 8.0
DAYS_LITTLE, DAYS_LAST = 14.0, 3.0
SHOWN_NODES = 3


class Account(SoxClient):
    """The truck's account, which asks for its own rights."""

    async def own_rights(self) -> dict[str, str]:
        """{node: affiliation} of this account on all nodes. Raises SoxError."""
        query = ET.Element(f"{{{PUBSUB}}}pubsub")
        ET.SubElement(query, f"{{{PUBSUB}}}affiliations")
        answer = await self._request("get", query)
        return {one.get("node", ""): one.get("affiliation", "") for one in answer.iter(f"{{{PUBSUB}}}affiliation")}


def check(visit: Visit) -> list[Finding]:
    """As far as one gets."""
    return asyncio.run(_check(visit))


async def _check(visit: Visit) -> list[Finding]:
    hub = visit.truck.hub
    found, reached = await reach(hub)
    if not reached:
        return found
    more, password = secret(hub)
    found += more
    if password is None:
        return found
    account = Account(f"{visit.truck.name}@{hub.domain}", password, hub.host, hub.port, hub.ca_file)
    try:
        await account.connect(LOGIN_SECONDS)
    except SoxError as error:
        todo = "do_account" if error.condition == "not-authorized" else "do_hub_log"
        return [*found, red("hub_login", say(todo), account=account.jid, error=str(error))]
    try:
        found.append(green("hub_logged_in", account=account.jid))
        found += await _rights(account, visit.truck.name)
    except SoxError as error:
        found.append(red("hub_asked", say("do_hub_log"), error=str(error)))
    finally:
        await account.disconnect()
    return found


async def reach(hub: Hub) -> tuple[list[Finding], bool]:
    """Name, address and certificate; and whether it makes sense to go on."""
    found = []
    values = {"host": hub.host, "port": hub.port}
    try:
        ip_address(hub.host)
    except ValueError:
        try:
            addresses = await asyncio.get_running_loop().getaddrinfo(hub.host, hub.port, type=socket.SOCK_STREAM)
        except OSError as error:
            return [red("hub_no_name", say("do_dns"), host=hub.host, error=error.strerror or str(error))], False
        found.append(green("hub_name", host=hub.host, address=str(addresses[0][4][0])))
    try:
        certificate = await shown(hub)
    except Untrusted as error:
        todo = {EXPIRED: "do_certificate_expired", NOT_YET_VALID: "do_certificate_clock"}.get(error.number, "do_certificate_ca")
        return [*found, red("hub_untrusted", say(todo), error=error.why, domain=hub.domain)], False
    except SoxError as error:
        return [*found, red("hub_ca_file", say("do_certificate_ca"), error=error.text)], False
    except NoTls as error:
        return [*found, red("hub_no_tls", say("do_hub_port"), error=str(error), **values)], False
    except TimeoutError:
        return [*found, red("hub_silent", say("do_hub_route"), **values)], False
    except OSError as error:
        return [*found, red("hub_refused", say("do_hub_route"), error=error.strerror or str(error), **values)], False
    values["days"] = int(certificate.days)
    values["version"] = certificate.version
    if certificate.days < DAYS_LAST:
        return [*found, red("hub_certificate", say("do_certificate_renew"), **values)], True
    if certificate.days < DAYS_LITTLE:
        return [*found, yellow("hub_certificate", say("do_certificate_renew"), **values)], True
    return [*found, green("hub_certificate", **values)], True


def secret(hub: Hub) -> tuple[list[Finding], str | None]:
    """The password of the account, and whether only its owner can read it."""
    path = hub.password_file
    try:
        with open(path, encoding="utf-8") as file:
            password = file.read().strip()
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        return [red("hub_no_password", say("do_password_root"), path=path, error=why)], None
    if mode & 0o077:
        return [yellow("hub_password_open", say("do_password_mode", path=path), path=path, mode=f"{mode:04o}")], password
    return [], password


async def _rights(account: Account, truck: str) -> list[Finding]:
    """What this account may do on the truck's nodes, and what the hub takes. Raises SoxError."""
    found = rights(await account.own_rights(), truck)
    try:
        await account.items(data(channel(truck, "receipts")), max=1)
        found.append(green("hub_reads"))
    except SoxError as error:
        found.append(red("hub_reads_not", say("do_rights", truck=truck), error=str(error)))
    told = await limits(account)
    if told.max_file_bytes is None:
        found.append(yellow("hub_no_upload", say("do_upload")))
    else:
        found.append(green("hub_takes", file=told.max_file_bytes / 1e6, payload=(told.max_payload_bytes or 0) / 1e3))
    return found


def rights(held: dict[str, str], truck: str) -> list[Finding]:
    """What is missing of the rights `held` {node: affiliation} that a truck needs. Pure."""
    devices = {truck: "publisher"} | {channel(truck, name): "member" if name in CENTER_WRITES else "publisher" for name in CHANNELS}
    wanted = {node: right for device, right in devices.items() for node in (meta(device), data(device))}
    enough = {"publisher": ("publisher", "owner"), "member": ("member", "publisher", "owner")}
    lacking = [node for node, right in wanted.items() if held.get(node) not in enough[right]]
    if not lacking:
        return [green("hub_rights", nodes=len(wanted))]
    names = ", ".join(lacking[:SHOWN_NODES]) + (", …" if len(lacking) > SHOWN_NODES else "")
    return [red("hub_rights_lack", say("do_rights", truck=truck), count=len(lacking), nodes=len(wanted), names=names)]
