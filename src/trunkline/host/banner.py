"""What `trunkline up` says once everything is ready: everything needed for a first message."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trunkline.host.credentials import Credentials

_COLUMN: Final = 17
"""Where the values of the table begin."""

EXAMPLE_RECIPIENT: Final = "+12025550123"


def banner(
    *,
    base_urls: Sequence[tuple[str, str]],
    carrier_url: str,
    is_simulator_ours: bool,
    credentials: Credentials,
    data: Path,
    is_ephemeral: bool,
    program: str,
) -> str:
    """Its Python lines work as they stand where the Twilio SDK is installed. `base_urls` are the
    hosts, by name; `program` is how this one is called."""
    base_url = base_urls[0][1]
    carrier = "simulator" if is_simulator_ours else "carrier"
    kept = "nowhere: everything is gone when this ends" if is_ephemeral else str(data)
    return f"""\
Trunkline is ready.

  API            {_listed(base_urls)}
  account SID    {credentials.account_sid}
  auth token     {credentials.auth_token}
  phone number   {credentials.phone_number}
  data           {kept}
  {carrier:<14} {carrier_url}

Send a message: paste this into Python, where the Twilio SDK is installed.

{snippet_of(base_url, credentials)}
Read it on the phone it was sent to:

  {program} phone {EXAMPLE_RECIPIENT} --simulator {carrier_url}

Stop with ctrl-C.
"""


def _listed(base_urls: Sequence[tuple[str, str]]) -> str:
    """One host's URL; of several each on a line of its own, with the host's name."""
    if len(base_urls) == 1:
        return base_urls[0][1]
    return f"\n{' ' * _COLUMN}".join(f"{url}  {name}" for name, url in base_urls)


def program_words(called: str, *, python: str, found: str | None) -> str:
    """How a person calls the program that was started as `called` in the same folder again;
    `found` is what its bare name would start."""
    script = Path(called)
    if script.name != "trunkline":
        return shlex.join((python, "-m", "trunkline"))  # its __main__.py
    if found is not None and Path(found).absolute() == script.absolute():
        return "trunkline"
    return shlex.quote(called)


def snippet_of(base_url: str, credentials: Credentials) -> str:
    """Lines that begin at the margin: an interpreter refuses pasted lines that are indented."""
    return f"""\
from twilio.rest import Client
client = Client("{credentials.account_sid}", "{credentials.auth_token}")
client.api.base_url = "{base_url}"
message = client.messages.create(
    to="{EXAMPLE_RECIPIENT}", from_="{credentials.phone_number}", body="Hello from Trunkline")
print(message.sid, message.status)
"""
