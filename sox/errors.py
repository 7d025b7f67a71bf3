"""What can go wrong between us and the hub, each with one clear line."""


class SoxError(Exception):
    """The hub refused, cannot be reached, or cannot be trusted.

    `condition` is XMPP's defined condition where the hub answered (RFC 6120, 8.3.3: `forbidden`, `item-not-found`, `conflict`,
    `not-allowed`, …), else one of ours: `refused` (no connection), `certificate` (not the hub we know), `not-authorized` (wrong
    account or password), `no-mechanism` (no SCRAM over TLS offered), `timeout`, `disconnected`, `overrun`, `bad-slot`.
    """

    def __init__(self, condition: str, text: str = "") -> None:
        self.condition = condition
        self.text = text
        super().__init__(f"{condition}: {text}" if text else condition)


class TransferError(SoxError):
    """An upload or fetch that did not succeed.

    `condition`: `http` (the server answered, `status` says what), `stalled`, `certificate`, `connection`, `size` (the object is
    not as long as expected), `file` (our own disk), `bad-address`. Nothing that raised this was delivered. `retry_after`: seconds that
    the server asks to stay away.
    """

    def __init__(self, condition: str, text: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(condition, text)
        self.status = status
        self.retry_after = retry_after


class DocumentError(ValueError):
    """A SoX document whose meaning cannot be read."""
