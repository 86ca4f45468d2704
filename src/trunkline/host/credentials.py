"""The first account's SID and token and its first number: made once, at a data folder's birth.

One host alone makes them up. The hosts of a cluster derive them from its secret, so that all folders
have the same ones without a word between them.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final

from trunkline.domain.ports import Entropy
from trunkline.host import durable
from trunkline.host.cluster_secret import ClusterSecret, Purpose
from trunkline.host.layout import Layout
from trunkline.host.refusal import DataFolderError

FIRST_PHONE_NUMBER: Final = "+12025550100"
"""Area code 202 with 555-01xx: set aside for examples, so nobody is ever reached by it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    account_sid: str
    auth_token: str
    phone_number: str


def born(entropy: Entropy) -> Credentials:
    return Credentials("AC" + entropy(16).hex(), entropy(16).hex(), FIRST_PHONE_NUMBER)


def derived(secret: ClusterSecret) -> Credentials:
    sid = "AC" + secret.derive(Purpose.ACCOUNT_SID)[:32]
    return Credentials(sid, secret.derive(Purpose.AUTH_TOKEN)[:32], FIRST_PHONE_NUMBER)


def write(layout: Layout, credentials: Credentials) -> None:
    durable.write_file(
        layout.credentials, json.dumps(asdict(credentials), indent=1).encode() + b"\n"
    )


def read(layout: Layout) -> Credentials | None:
    """The folder's credentials, or None if it has none. Raises `DataFolderError` if damaged."""
    try:
        document = json.loads(layout.credentials.read_bytes())
        return Credentials(
            account_sid=str(document["account_sid"]),
            auth_token=str(document["auth_token"]),
            phone_number=str(document["phone_number"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataFolderError(
            f"cannot read {layout.credentials} ({error.strerror})", "make it readable for this user"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataFolderError(
            f"{layout.credentials} is damaged", "put back the one of a backup"
        ) from error


def require(layout: Layout) -> Credentials:
    """The credentials of a folder that has been born; where several hosts of one machine have
    theirs below it, those they have in common."""
    found = read(layout)
    if found is None and layout.local_cluster.exists():
        below = sorted(layout.data.glob(f"*/{layout.credentials.name}"))
        found = read(Layout(below[0].parent)) if below else None
    if found is None:
        raise DataFolderError(
            f"there are no credentials in {layout.data}",
            "name the folder of a host with --data, or start one with 'trunkline up'",
        )
    return found
