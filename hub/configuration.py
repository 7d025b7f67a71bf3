"""ejabberd.yml of our hub, written from here: what the demo runs is what a city runs. The numbers are in hub/limits.py.

Not in it, on purpose: in-band registration, web admin, PLAIN and ANONYMOUS, message archives, offline stores, and any administration
over the network. ejabberd's own commands answer on a Unix socket in the hub's folder (hub/local.py), which is the owner's alone, and
the account `admin` logs in from this machine only. Servers talk to servers (s2s) only with a list of federated domains: TLS and a
certificate of a known authority, no dialback, nobody else.
"""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from hub import limits
from hub.accounts import ADMIN, CENTER, READER_PREFIX, WRITER_PREFIX
from hub.certificates import Files

LOOPBACK = ("127.0.0.1", "::1")
# What the command `cruisers hub` may ask of a running hub.
COMMANDS = (
    "change_password", "connected_users", "kick_user", "register", "registered_users", "restart_module", "status", "unregister",
)  # fmt: skip


class Addresses(NamedTuple):
    """Where the hub listens. `host` is an IP address."""

    domain: str
    host: str
    c2s_port: int
    http_port: int


class Federation(NamedTuple):
    """The domains whose servers may talk to ours, the port for them, and a PEM file with the authorities that sign them."""

    domains: Sequence[str]
    port: int
    authorities: Path


def render(
    addresses: Addresses, certificates: Files, upload_folder: str, commands: str | None = None, federation: Federation | None = None
) -> str:
    """The configuration as YAML; every text of ours goes in as a JSON string, which is YAML too.

    `commands` is the path of the Unix socket for administration (relative: to ejabberd's working folder); None for none.
    """
    domain, host, c2s_port, http_port = addresses
    url_host = f"[{host}]" if ":" in host else host
    upload_url = json.dumps(f"https://{url_host}:{http_port}/upload")
    return f"""\
# Written by hub/configuration.py at every start: changes here are lost.
loglevel: warning
log_rotate_size: 10485760
log_rotate_count: 2
hide_sensitive_log_data: true
hosts: [{json.dumps(domain)}]
certfiles: [{json.dumps(str(certificates.server))}, {json.dumps(str(certificates.server_key))}]
ca_file: {json.dumps(str(certificates.ca))}
negotiation_timeout: {limits.NEGOTIATION_SECONDS}
resource_conflict: closeold

define_macro:
  TLS_OPTIONS: [no_sslv3, no_tlsv1, no_tlsv1_1, cipher_server_preference, no_compression]
  TLS_CIPHERS: "HIGH:!aNULL:!eNULL:!3DES:@STRENGTH"

auth_method: mnesia
auth_password_format: scram
auth_scram_hash: sha256
disable_sasl_mechanisms: [PLAIN, ANONYMOUS, DIGEST-MD5, X-OAUTH2, EXTERNAL, SCRAM-SHA-1, SCRAM-SHA-1-PLUS]

listen:
  - module: ejabberd_c2s
    ip: {json.dumps(host)}
    port: {c2s_port}
    access: log_in
    shaper: accounts
    starttls: true
    starttls_required: true
    protocol_options: TLS_OPTIONS
    ciphers: TLS_CIPHERS
    max_stanza_size: {limits.MAX_STANZA}
    backlog: 128
  - module: ejabberd_http
    ip: {json.dumps(host)}
    port: {http_port}
    tls: true
    protocol_options: TLS_OPTIONS
    ciphers: TLS_CIPHERS
    backlog: 128
    request_handlers:
      /upload: mod_http_upload
{_commands_listener(commands)}{_federation_listener(host, federation)}
{_federation(federation)}
acl:
  admin:
    user: [{json.dumps(f"{ADMIN}@{domain}")}]
  center:
    user: [{json.dumps(f"{CENTER}@{domain}")}]
  readers:
    user_regexp: "^{READER_PREFIX}"
  writers:
    user_regexp: "^{WRITER_PREFIX}"
  this_machine:
    ip: {json.dumps(_own_addresses(host))}
  federated:
    server: {json.dumps(_servers(federation))}
access_rules:
  create_node:
    - allow: admin
  log_in:
    - allow:
        - acl: admin
        - acl: this_machine
    - deny: admin
    - allow: all
  upload:
    - deny: admin
    - deny: center
    - deny: readers
    - deny: writers
    - allow:
        - user_regexp: "^[a-z0-9-]+$"
  federation:
    - allow: federated
  never_shut_out:
    - allow: this_machine
shaper:
  truck:
    rate: {limits.TRUCK_RATE.rate}
    burst_size: {limits.TRUCK_RATE.burst}
  reader:
    rate: {limits.READER_RATE.rate}
    burst_size: {limits.READER_RATE.burst}
shaper_rules:
  accounts:
    - none: admin
    - none: center
    - reader: readers
    - truck: all
  max_user_sessions:
    - {limits.ADMIN_SESSIONS}: admin
    - {limits.CENTER_SESSIONS}: center
    - {limits.READER_SESSIONS}: readers
    - {limits.TRUCK_SESSIONS}: all
  upload_quota:
    - {limits.QUOTA_MIB}: all
{_permissions(commands)}
modules:
  mod_admin_extra: {{}}
  mod_disco: {{}}
  mod_fail2ban:
    access: never_shut_out
    c2s_max_auth_failures: {limits.AUTH_FAILURES}
    c2s_auth_ban_lifetime: {limits.AUTH_BAN_SECONDS}
  mod_ping:
    send_pings: true
    ping_interval: {limits.PING_SECONDS}
    timeout_action: kill
  mod_pubsub:
    access_createnode: create_node
    plugins: [flat]
    last_item_cache: false
    max_items_node: {limits.QUEUE_MOST}
  mod_http_upload:
    docroot: {json.dumps(upload_folder)}
    put_url: {upload_url}
    get_url: {upload_url}
    access: upload
    max_size: {limits.MAX_OBJECT}
    secret_length: 40
    jid_in_url: sha1
    file_mode: "0600"
    dir_mode: "0700"
    thumbnail: false
    rm_on_unregister: false
  mod_http_upload_quota:
    access_soft_quota: upload_quota
    access_hard_quota: upload_quota
    max_days: {limits.RETENTION_DAYS}
"""


def _commands_listener(socket: str | None) -> str:
    if socket is None:
        return ""
    return f"""\
  - module: ejabberd_http
    port: {json.dumps(f"unix:{socket}")}
    tag: here
    request_handlers:
      /api: mod_http_api
"""


def _permissions(socket: str | None) -> str:
    if socket is None:
        return "api_permissions: {}\n"
    return f"""\
api_permissions:
  "the hub's own command":
    from:
      - tag: here
    who: all
    what: {json.dumps(COMMANDS)}
"""


def _federation_listener(host: str, federation: Federation | None) -> str:
    if federation is None:
        return ""
    return f"""\
  - module: ejabberd_s2s_in
    ip: {json.dumps(host)}
    port: {federation.port}
    max_stanza_size: {limits.MAX_STANZA}
    shaper: truck
    backlog: 16
"""


def _federation(federation: Federation | None) -> str:
    if federation is None:
        return "s2s_access: none\n"
    return f"""\
s2s_access: federation
s2s_use_starttls: required
s2s_cafile: {json.dumps(str(federation.authorities))}
s2s_protocol_options: TLS_OPTIONS
s2s_ciphers: TLS_CIPHERS
s2s_dns_timeout: 5
"""


def _servers(federation: Federation | None) -> list[str]:
    """The domains with their pubsub services, which send the notifications. Without a list: a name that no server has (RFC 6761)."""
    domains = federation.domains if federation else ["nobody.invalid"]
    return [name for domain in domains for name in (domain, f"pubsub.{domain}")]


def _own_addresses(host: str) -> list[str]:
    return [*LOOPBACK] if host in LOOPBACK or ip_address(host).is_unspecified else [*LOOPBACK, host]
