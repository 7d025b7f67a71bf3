"""Why the hub cannot be started, in one line for whoever started it."""


class HubError(Exception):
    """One clear line; the command prints it and exits with code 2."""
