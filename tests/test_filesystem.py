"""Which file systems may hold a queue."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prismq import filesystem
from prismq.errors import UnsupportedEnvironmentError

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,relatime - proc proc rw
40 22 0:50 / /home rw,relatime shared:20 master:3 - nfs4 server:/home rw,vers=4.2
41 40 8:2 / /home/local rw,relatime - xfs /dev/sdb1 rw
42 22 0:51 / /mnt/my\\040share rw - cifs //server/share rw
43 22 0:52 / /data rw - ext4 /dev/sdc1 rw
44 43 0:53 / /data rw - nfs server:/data rw
45 22 0:54 / /homestead rw - btrfs /dev/sdd rw
46 22 0:55 / /ssh rw - fuse.sshfs me@host: rw
broken line
"""

MOUNT_OUTPUT = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
//me@server/share on /Volumes/share (smbfs, nodev, nosuid, mounted by me)
server:/export on /Volumes/nfs (2024) (nfs, nodev)
/dev/disk5s1 on /Volumes/USB (one) (exfat, local, nodev)
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/lib/q.db", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/q.db", "nfs4"),
        ("/home/local/q.db", "xfs"),
        ("/homestead/q.db", "btrfs"),
        ("/homes/q.db", "ext4"),
        ("/mnt/my share/q.db", "cifs"),
        ("/data/q.db", "nfs"),
        ("/ssh/q.db", "fuse.sshfs"),
    ],
)
def test_the_deepest_and_latest_mount_decides(place, kind):
    assert filesystem.filesystem_in_mountinfo(place, MOUNTINFO) == kind


def test_an_empty_table_decides_nothing():
    assert filesystem.filesystem_in_mountinfo("/q.db", "") is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "lustre"])
def test_network_file_systems_are_known(kind):
    assert kind in filesystem.NETWORK_FILESYSTEMS


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "ntfs3", "fuseblk"])
def test_local_file_systems_are_not_refused(kind):
    assert kind not in filesystem.NETWORK_FILESYSTEMS


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/Users/me/q.db", None),
        ("/Volumes/share/q.db", "smbfs"),
        ("/Volumes/nfs (2024)/q.db", "nfs"),
        ("/Volumes/USB (one)/q.db", None),
    ],
)
def test_the_mount_table_of_macos_is_understood(place, kind):
    assert filesystem.network_in_mount_output(place, MOUNT_OUTPUT) == kind


@pytest.mark.parametrize(
    ("path", "network"),
    [
        (r"\\server\share\q.db", True),
        (r"//server/share/q.db", True),
        (r"\\?\UNC\server\share\q.db", True),
        (r"\\?\C:\data\q.db", False),
        (r"\\.\C:\data\q.db", False),
        (r"C:\data\q.db", False),
        (r"data\q.db", False),
    ],
)
def test_a_windows_path_to_a_server_is_recognised(path, network):
    assert filesystem.is_unc(path) is network


def test_this_disk_is_accepted_also_for_a_file_that_does_not_exist_yet(tmp_path: Path):
    filesystem.require_local(tmp_path / "not" / "there" / "q.db")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the table of Linux")
def test_the_refusal_names_the_place_the_reason_and_the_way_out(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(filesystem, "NETWORK_FILESYSTEMS", {filesystem_of(tmp_path)})
    with pytest.raises(UnsupportedEnvironmentError) as caught:
        filesystem.require_local(tmp_path / "q.db")
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "shared by one host" in message
    assert "local disk" in message


@pytest.mark.skipif(sys.platform != "linux", reason="reads the table of Linux")
def test_a_link_is_followed_to_where_the_file_lies(monkeypatch, tmp_path: Path):
    (tmp_path / "link").symlink_to("/proc")
    monkeypatch.setattr(filesystem, "NETWORK_FILESYSTEMS", {"proc"})
    assert filesystem.network_filesystem(tmp_path / "link" / "q.db") == "proc"


def filesystem_of(path: Path) -> str | None:
    return filesystem.filesystem_in_mountinfo(str(path), Path("/proc/self/mountinfo").read_text())
