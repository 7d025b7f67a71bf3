"""ejabberd's own administration commands over the Unix socket in the hub's folder: no port, no password, the owner's alone (folder 0700).

The socket's name is kept short by reaching it through the folder's descriptor: sockaddr_un holds 107 bytes, a home folder may be longer.
"""

import http.client
import json
import os
import socket
from pathlib import Path

from hub.errors import HubError

FOLDER = "run"
SOCKET = f"{FOLDER}/commands"  # relative to the hub's folder, which is ejabberd's working folder
ANSWER_SECONDS = 60.0  # of one command; a machine under load is slow, a hub that hangs is not waited for


class LocalCommands:
    """Commands to the hub in `home`; each call is one connection."""

    def __init__(self, home: Path, domain: str) -> None:
        self._folder = home / FOLDER
        self._domain = domain

    def register(self, user: str, password: str) -> None:
        """Make the account `user`; raises HubError (also if it is there already)."""
        self._call("register", user=user, host=self._domain, password=password)

    def unregister(self, user: str) -> None:
        """Remove the account `user`; its sessions end."""
        self._call("unregister", user=user, host=self._domain)

    def change_password(self, user: str, password: str) -> None:
        """Only `password` logs `user` in from now on; sessions go on."""
        self._call("change_password", user=user, host=self._domain, newpass=password)

    def kick(self, user: str) -> None:
        """End all sessions of `user` now."""
        self._call("kick_user", user=user, host=self._domain)

    def registered(self) -> list[str]:
        """All accounts, by local part."""
        return sorted(str(name) for name in self._list("registered_users", host=self._domain))

    def connected(self) -> list[str]:
        """Accounts with a session now, by local part, each once."""
        found = {str(jid).partition("@") for jid in self._list("connected_users")}
        return sorted(user for user, _, rest in found if rest.partition("/")[0] == self._domain)

    def forget_slots(self) -> None:
        """Void every upload slot that is not in use yet, whosever: ejabberd keeps them in memory only and cannot name them."""
        self._call("restart_module", host=self._domain, module="mod_http_upload")

    def _list(self, command: str, **arguments: str) -> list[object]:
        answer = self._call(command, **arguments)
        if not isinstance(answer, list):
            raise HubError(f"the hub answered {command} with {answer!r}")
        return answer

    def _call(self, command: str, **arguments: str) -> object:
        try:
            connection = _Connection(self._folder)
            try:
                connection.request("POST", f"/api/{command}", json.dumps(arguments), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise HubError(f"the hub does not answer on {self._folder.parent / SOCKET}: {error}") from error
        if answer.status != 200:
            raise HubError(f"the hub refused {command}: {answer.status} {body[:200].decode('utf-8', 'replace')}")
        return json.loads(body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self._folder = folder

    def connect(self) -> None:
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{Path(SOCKET).name}")
        finally:
            os.close(folder)
