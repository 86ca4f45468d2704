"""What `trunkline up` says once everything is ready: everything needed for a first message."""

from pathlib import Path
from typing import Final

from trunkline.host.credentials import Credentials

EXAMPLE_RECIPIENT: Final = "+12025550123"


def banner(
    *,
    base_url: str,
    simulator_url: str,
    credentials: Credentials,
    data: Path,
    is_ephemeral: bool,
) -> str:
    """Its Python lines work as they stand where the Twilio SDK is installed."""
    kept = "nowhere: everything is gone when this ends" if is_ephemeral else str(data)
    return f"""\
Trunkline is ready.

  API            {base_url}
  account SID    {credentials.account_sid}
  auth token     {credentials.auth_token}
  phone number   {credentials.phone_number}
  data           {kept}
  simulator      {simulator_url}

Send a message: paste this into Python, where the Twilio SDK is installed.

{snippet_of(base_url, credentials)}
Read it on the phone it was sent to:

  trunkline phone {EXAMPLE_RECIPIENT} --simulator {simulator_url}

Stop with ctrl-C.
"""


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
