"""`format.json`: what wrote a data folder, checked before anything opens the log in it.

A store opened by an engine in another mode can be erased as orphaned, one opened under another host's
name would vote with that host's voice, and another number of shards would make every fence look in
the wrong place; so any difference is refused, and nothing changed.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from trunkline.domain.ports import Entropy
from trunkline.host import durable
from trunkline.host.layout import Layout
from trunkline.host.refusal import FormatError
from trunkline.log.shards import HASH_NAME, SHARDS
from trunkline.version import __version__

PRODUCT: Final = "trunkline"
FORMAT: Final = 2
"""2: chains stand in ledgers, and a message of the log may hold several events. A folder of format 1
is read as it is, and its number is raised before anything new is written into it."""

OLDEST_FORMAT: Final = 1
ALONE: Final = "single"
IN_CLUSTER: Final = "cluster"
MODES: Final = (ALONE, IN_CLUSTER)

_CLUSTER: Final = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Which folder of which cluster this must be: the id that follows from the cluster's secret, and
    the name of the host."""

    cluster: str
    host: str


@dataclass(frozen=True, slots=True)
class Format:
    """`cluster` names the body of data: hosts of one cluster have it in common. `host` is the name
    of the one whose folder it is, and empty for one host alone, which may be renamed. `secret_id`
    is what follows from the cluster's secret; it differs from `cluster` where the data were those
    of one host alone before."""

    cluster: str
    product: str = PRODUCT
    format: int = FORMAT
    mode: str = ALONE
    host: str = ""
    secret_id: str = ""
    shards: int = SHARDS
    hash: str = HASH_NAME
    created_by: str = __version__


def born(entropy: Entropy, place: Place | None = None) -> Format:
    """The format of a new data folder; without a `place`, that of one host alone."""
    if place is None:
        return Format(cluster=entropy(16).hex())
    return in_cluster(Format(cluster=place.cluster), place)


def in_cluster(found: Format, place: Place) -> Format:
    """The format of the same data as those of a host of a cluster."""
    return replace(found, mode=IN_CLUSTER, host=place.host, secret_id=place.cluster)


def require_place(found: Format, place: Place | None, *, where: str) -> None:
    """Raises `FormatError` if the folder is not that of this host in this cluster, or not that of
    one host alone where `place` is None."""
    if place is None:
        if found.mode != ALONE:
            raise FormatError(
                f"{where} is the folder of {found.host!r}, a host of a cluster, and cluster.hosts "
                "is empty: the engine would erase it",
                "set cluster.hosts and cluster.token_file, or choose another folder with --data",
            )
        return
    if found.mode == ALONE:
        raise FormatError(
            f"{where} is the folder of one host alone, and cluster.hosts is set: the engine would "
            "erase it",
            "keep it with 'trunkline backup', and make a cluster of it with 'trunkline restore' and "
            "the --config of each of its hosts; or choose a new folder with --data",
        )
    if found.secret_id != place.cluster:
        raise FormatError(
            f"{where} belongs to the cluster {found.secret_id[:8]}, and cluster.token_file is that of "
            f"{place.cluster[:8]}",
            "put the token file of its own cluster in place, or choose another folder with --data",
        )
    if found.host != place.host:
        raise FormatError(
            f"{where} is the folder of {found.host!r}, and host.name is {place.host!r}",
            "correct host.name or host.data: the engine votes under its host's name",
        )


def write(layout: Layout, found: Format) -> None:
    durable.write_file(layout.format, json.dumps(asdict(found), indent=1).encode() + b"\n")


def raise_number(layout: Layout, found: Format) -> Format:
    """Of a folder of an older format, so that no older program opens what will stand there."""
    if found.format == FORMAT:
        return found
    raised = replace(found, format=FORMAT)
    write(layout, raised)
    return raised


def read(layout: Layout) -> Format | None:
    """The folder's format, or None if nothing has been kept in it yet.

    Raises `FormatError` for a folder this program must not touch.
    """
    try:
        text = layout.format.read_bytes()
    except FileNotFoundError:
        require_unborn(layout)
        return None
    except OSError as error:
        raise FormatError(
            f"cannot read {layout.format} ({error.strerror})", "make it readable for this user"
        ) from error
    return parse(text, where=str(layout.data))


def parse(text: bytes, *, where: str) -> Format:
    """The content of a `format.json`, if this program can work with it."""
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("product"), str):
        raise FormatError(
            f"format.json of {where} is damaged",
            "restore a backup into another folder with 'trunkline restore'",
        )
    if document["product"] != PRODUCT:
        raise FormatError(
            f"{where} belongs to {document['product']!r}, not to {PRODUCT}",
            "choose another folder with --data",
        )
    number = document.get("format")
    if not isinstance(number, int) or not OLDEST_FORMAT <= number <= FORMAT:
        raise FormatError(
            f"{where} has format {number!r}, written by version {document.get('created_by')}; "
            f"this program (version {__version__}) reads format {FORMAT}",
            "use that version or a newer one",
        )
    _require_same(document, where)
    return Format(
        cluster=document["cluster"],
        format=number,
        mode=document["mode"],
        host=str(document.get("host", "")),
        secret_id=str(document.get("secret_id", "")),
        created_by=str(document.get("created_by", "")),
    )


def _require_same(document: dict[str, Any], where: str) -> None:
    expected = {"mode": MODES, "shards": (SHARDS,), "hash": (HASH_NAME,)}
    for key, values in expected.items():
        if document.get(key) not in values:
            known = " or ".join(map(repr, values))
            raise FormatError(
                f"{where} has {key} {document.get(key)!r}, and this program works with {known}",
                "use the version that wrote it, or choose another folder with --data",
            )
    cluster = document.get("cluster")
    if not isinstance(cluster, str) or _CLUSTER.match(cluster) is None:
        raise FormatError(
            f"format.json of {where} has no valid cluster id",
            "restore a backup into another folder with 'trunkline restore'",
        )


def require_unborn(layout: Layout) -> None:
    """Raises `FormatError` for a folder without a format that holds something nevertheless. A birth
    that was cut short leaves credentials at most: the format is written last."""
    if layout.local_cluster.exists():
        raise FormatError(
            f"the folder {layout.data} holds the hosts of a cluster on this machine",
            "start them with --hosts, or name the folder of one of them with --data",
        )
    ours = layout.passing_names() | {
        layout.credentials.name,
        layout.replica.parent.name,
        layout.cluster_token.name,
    }
    foreign = sorted(_foreign(layout, ours))
    if foreign:
        raise FormatError(
            f"the folder {layout.data} has no format.json but is not empty "
            f"(it holds {foreign[0]!r})",
            "choose an empty folder with --data",
        )


def _foreign(layout: Layout, ours: Iterable[str]) -> list[str]:
    if not layout.data.is_dir():
        return []
    names = {entry.name for entry in layout.data.iterdir()}
    return [name for name in names - set(ours) if not name.endswith(durable.NEW_SUFFIX)]
