"""What of Windows decides about a disk's speed: virus scanner, power plan and drive, where that can be read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

NOT_KNOWN = "not known"
SECONDS = 20.0
MEDIA = {"3": "HDD", "4": "SSD", "5": "SCM"}
BUSES = {"7": "USB", "8": "RAID", "11": "SATA", "17": "NVMe"}
"""Numbers of MSFT_PhysicalDisk, which older PowerShells print in place of names."""


def windows_facts(folder: Path) -> dict[str, str]:
    """By name; `not known` elsewhere, and for what this user may not read."""
    if os.name != "nt":
        return dict.fromkeys(("virus scanner", "power plan", "drive"), NOT_KNOWN)
    place = folder.resolve()
    letter = place.drive.rstrip(":")
    watching = _powershell("(Get-MpComputerStatus).RealTimeProtectionEnabled")
    excluded = _powershell("(Get-MpPreference).ExclusionPath")
    disk = _powershell(
        f"Get-Partition -DriveLetter '{letter}' | Get-Disk | Get-PhysicalDisk"
        " | Select-Object MediaType, BusType | ConvertTo-Json"
    )
    return {
        "virus scanner": defender(watching, excluded, str(place)),
        "power plan": power_plan(_said(["powercfg", "/getactivescheme"])),
        "drive": drive(disk),
    }


def defender(watching: str | None, excluded: str | None, folder: str) -> str:
    """From what Get-MpComputerStatus and Get-MpPreference say."""
    state = (watching or "").strip().lower()
    if state == "false":
        return "Microsoft Defender does not watch files as they are used"
    if state != "true":
        return NOT_KNOWN
    if excluded is None or "administrator" in excluded.lower():
        return "Microsoft Defender watches; whether this folder is excluded is not known (run as administrator)"
    place = PureWindowsPath(folder)
    paths = [PureWindowsPath(line.strip()) for line in excluded.splitlines() if line.strip()]
    if any(place.is_relative_to(path) for path in paths):
        return "Microsoft Defender watches, this folder is excluded"
    return "Microsoft Defender watches this folder too: each file operation is looked at"


def power_plan(said: str | None) -> str:
    """The name in parentheses of what powercfg says, in whichever language."""
    _, opened, rest = (said or "").rpartition("(")
    name, closed, _ = rest.partition(")")
    return name.strip() if opened and closed and name.strip() else NOT_KNOWN


def drive(said: str | None) -> str:
    """Kind and bus, of the first disk if there are several."""
    try:
        found = json.loads(said or "")
    except ValueError:
        return NOT_KNOWN
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return NOT_KNOWN
    media, bus = (str(first.get(name, "")) for name in ("MediaType", "BusType"))
    parts = [MEDIA.get(media, media), BUSES.get(bus, bus)]
    known = [part for part in parts if part and not part.isdigit() and part not in ("Unspecified", "Unknown")]
    return ", ".join(known) or NOT_KNOWN


def _powershell(command: str) -> str | None:
    return _said(["powershell", "-NoProfile", "-NonInteractive", "-Command", command])


def _said(command: Sequence[str]) -> str | None:
    """Standard output; None when the program is missing, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
