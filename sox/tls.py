"""Trust in the hub, for its XMPP and its HTTP alike."""

import ssl
from pathlib import Path

from sox.errors import SoxError


def tls_context(ca_file: str | Path) -> ssl.SSLContext:
    """A client's context that trusts `ca_file` alone, TLS 1.2 or newer, host name checked; raises SoxError if the file is no CA."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise SoxError("certificate", f"cannot read the certificate authority {ca_file}: {error.strerror or error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
