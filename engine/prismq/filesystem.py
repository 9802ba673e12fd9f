"""What a file system can and must do: network ones are refused, and what is to last is synced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from prismq.errors import UnsupportedEnvironmentError

# fmt: off
NETWORK_FILESYSTEMS = frozenset(
    {
        "9p", "acfs", "afpfs", "afs", "beegfs", "ceph", "cifs", "coda", "curl", "davfs", "davfs2", "fhgfs", "ftpfs",
        "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs",
        "pvfs2", "smb2", "smb3", "smbfs", "webdav", "fuse.ceph", "fuse.ceph-fuse", "fuse.cephfs", "fuse.curlftpfs",
        "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.gvfsd-fuse", "fuse.juicefs", "fuse.mfs", "fuse.rclone",
        "fuse.s3fs", "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs",
    }
)
# fmt: on
_DRIVE_REMOTE = 4
_OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")


def require_local(path: Path) -> None:
    """Raise UnsupportedEnvironmentError when `path`, which need not exist yet, lies on a network file system."""
    kind = network_filesystem(path)
    if kind is not None:
        raise UnsupportedEnvironmentError(
            f"{path} is on a network file system ({kind}); SQLite's WAL needs memory shared by one host and would lose "
            "or corrupt tasks there: keep the queue on a local disk and let remote machines reach it through a server"
        )


def sync_file(path: Path) -> None:
    """Have the disk keep what was written to a file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the disk keep which files a folder has; Windows does that by itself."""
    if os.name == "nt":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def network_filesystem(path: Path) -> str | None:
    """The kind of network file system that `path` lies on, or None when it is local or can't be told."""
    place = os.path.realpath(path)
    if sys.platform == "win32":
        return _windows_network(place)
    try:
        if sys.platform == "darwin":
            return network_in_mount_output(place, _mount_output())
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            kind = filesystem_in_mountinfo(place, table.read())
    except OSError:
        return None
    return kind if kind in NETWORK_FILESYSTEMS else None


def filesystem_in_mountinfo(place: str, table: str) -> str | None:
    """The file system type of an absolute path by the text of Linux's /proc/self/mountinfo."""
    mounts: list[tuple[str, str]] = []
    for line in table.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > 4:
            point = _OCTAL_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
            mounts.append((point, after.split(" ", 1)[0]))
    return _deepest(place, mounts)


def network_in_mount_output(place: str, output: str) -> str | None:
    """The type of network file system of an absolute path by what `mount` prints on macOS; None when local."""
    mounts: list[tuple[str, str]] = []
    for line in output.splitlines():
        match = re.fullmatch(r".*? on (/.*) \(([^()]*)\)", line)
        if match:
            kind, *flags = match[2].split(", ")
            mounts.append((match[1], "" if "local" in flags and kind not in NETWORK_FILESYSTEMS else kind))
    return _deepest(place, mounts) or None


def is_unc(path: str) -> bool:
    r"""Whether a Windows path names a server: \\server\share or \\?\UNC\server\share."""
    plain = path.replace("/", "\\")
    if plain[:4] in ("\\\\?\\", "\\\\.\\"):
        return plain[4:8].upper() == "UNC\\"
    return plain.startswith("\\\\")


def _deepest(place: str, mounts: list[tuple[str, str]]) -> str | None:
    found, longest = None, -1
    for point, kind in mounts:
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # equal: mounted later, on top
            found, longest = kind, len(point)
    return found


def _mount_output() -> str:
    return subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=False, timeout=5).stdout


def _windows_network(place: str) -> str | None:
    if is_unc(place):
        return "network share"
    if sys.platform == "win32":
        import ctypes

        drive = os.path.splitdrive(place.removeprefix("\\\\?\\"))[0]
        if ctypes.windll.kernel32.GetDriveTypeW(drive + "\\") == _DRIVE_REMOTE:
            return f"network drive {drive}"
    return None
