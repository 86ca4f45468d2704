"""Whether the disk under a folder is a disk of this machine, or one reached over a network.

A host whose disk is elsewhere does not fail alone: many hosts share the network and the storage
behind it. Linux says what a block device is in sysfs (sysfs(5)); elsewhere nothing is known.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NETWORK_DRIVERS: Final[Mapping[str, str]] = {
    "rbd": "Ceph RBD",
    "nbd": "a network block device",
    "drbd": "DRBD",
}
"""Device names, without their numbers, that are network storage whatever is behind them."""

NETWORK_MODELS: Final[Mapping[str, str]] = {
    "amazon elastic block store": "Amazon EBS",
    "persistentdisk": "a Google persistent disk",
    "nvme_card-pd": "a Google persistent disk",
    "virtual disk": "a virtual disk of a cloud",
    "iscsi": "iSCSI",
}
"""What such a device calls itself, in small letters."""

_ISCSI_PATH: Final = "/session"


def network_device_under(data: Path, *, sysfs: Path = Path("/sys")) -> str | None:
    """What kind of network storage holds `data`; None if it is none that we know of."""
    place = next((each for each in (data, *data.parents) if each.exists()), Path("/"))
    number = place.stat().st_dev
    device = sysfs / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    return None if not device.exists() else network_kind(device.resolve())


def network_kind(device: Path) -> str | None:
    """The same for the sysfs folder of a block device or of one of its partitions."""
    whole = device.parent if (device / "partition").exists() else device
    if _ISCSI_PATH in str(whole):
        return "iSCSI"
    driver = NETWORK_DRIVERS.get(whole.name.rstrip("0123456789"))
    if driver is not None:
        return driver
    model = _text(whole / "device" / "model").lower()
    return next((kind for words, kind in NETWORK_MODELS.items() if words in model), None)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
