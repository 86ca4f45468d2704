"""Which disks are reached over a network, as sysfs describes them."""

from pathlib import Path

import pytest

from trunkline.host.block_device import network_device_under, network_kind


def device(folder: Path, name: str, model: str = "") -> Path:
    made = folder / name
    (made / "device").mkdir(parents=True)
    if model:
        (made / "device" / "model").write_text(f"{model}\n")
    return made


@pytest.mark.parametrize(
    ("name", "model", "kind"),
    [
        ("nvme0n1", "Amazon Elastic Block Store", "Amazon EBS"),
        ("nvme1n1", "Amazon EC2 NVMe Instance Storage", None),
        ("sda", "PersistentDisk", "a Google persistent disk"),
        ("sdb", "Virtual Disk", "a virtual disk of a cloud"),
        ("rbd0", "", "Ceph RBD"),
        ("drbd1", "", "DRBD"),
        ("vda", "", None),
        ("nvme0n1", "Samsung SSD 990 PRO 2TB", None),
    ],
)
def test_a_disk_is_known_by_its_name_or_model(
    tmp_path: Path, name: str, model: str, kind: str | None
) -> None:
    assert network_kind(device(tmp_path, name, model)) == kind


def test_a_partition_is_what_its_disk_is(tmp_path: Path) -> None:
    partition = device(tmp_path, "nvme0n1", "Amazon Elastic Block Store") / "nvme0n1p1"
    partition.mkdir()
    (partition / "partition").write_text("1\n")

    assert network_kind(partition) == "Amazon EBS"


def test_a_disk_behind_an_iscsi_session_is_known_by_its_path(tmp_path: Path) -> None:
    assert network_kind(device(tmp_path / "host2" / "session1", "sdc", "LUN")) == "iSCSI"


def test_where_the_system_says_nothing_nothing_is_claimed(tmp_path: Path) -> None:
    assert network_device_under(tmp_path / "not yet there", sysfs=tmp_path) is None
