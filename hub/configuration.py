"""ejabberd.yml of our hub, written from here: what the demo runs is what a city runs.

Not in it, on purpose: any admin or HTTP API, in-band registration, s2s, web admin, PLAIN and ANONYMOUS, message archives, offline
stores. ejabberd's example shaper (3 kB/s) is left out: one truck's upload class is paced by its own uplink.
"""

import json
from typing import NamedTuple

from hub.accounts import ADMIN
from hub.certificates import Files
from sox.nodes import QUEUE_ITEMS

MAX_OBJECT = 268_435_456  # bytes of one uploaded object: 16 times an images segment
MAX_STANZA = 524_288  # bytes: twice a full pubsub payload
PING_SECONDS = 60  # a session that does not answer is ended, so that its account counts as away


class Addresses(NamedTuple):
    """Where the hub listens. `host` is an IP address."""

    domain: str
    host: str
    c2s_port: int
    http_port: int


def render(addresses: Addresses, certificates: Files, upload_folder: str) -> str:
    """The configuration as YAML; every text of ours goes in as a JSON string, which is YAML too."""
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
    starttls: true
    starttls_required: true
    protocol_options: TLS_OPTIONS
    ciphers: TLS_CIPHERS
    max_stanza_size: {MAX_STANZA}
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

s2s_access: none

acl:
  admin:
    user: [{json.dumps(f"{ADMIN}@{domain}")}]
  local:
    user_regexp: ""
access_rules:
  create_node:
    - allow: admin
  accounts:
    - allow: local
api_permissions: {{}}

modules:
  mod_disco: {{}}
  mod_ping:
    send_pings: true
    ping_interval: {PING_SECONDS}
    timeout_action: kill
  mod_pubsub:
    access_createnode: create_node
    plugins: [flat]
    last_item_cache: false
    max_items_node: {QUEUE_ITEMS}
  mod_http_upload:
    docroot: {json.dumps(upload_folder)}
    put_url: {upload_url}
    get_url: {upload_url}
    access: accounts
    max_size: {MAX_OBJECT}
    secret_length: 40
    jid_in_url: sha1
    file_mode: "0600"
    dir_mode: "0700"
    thumbnail: false
"""
