"""DVC's site cache in the clone, in a folder that its user alone may enter.

DVC's default, /var/tmp/dvc, may be written by every user of the machine, and DVC unpickles what
lies there, so another user's pickle would run here (CVE-2025-69872). DVC makes the folder itself
writable for all, so it is the parent that is closed.
"""

import configparser
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

PARENT = Path(".dvc/site")
VARIABLE = "DVC_SITE_CACHE_DIR"
KEY = "core.site_cache_dir"


def make_private(root: Path = Path(".")) -> Path:
    """Create the closed folder in the clone `root`; return the absolute path of the site cache."""
    parent = root.absolute() / PARENT
    parent.mkdir(mode=0o700, exist_ok=True)
    parent.chmod(0o700)
    return parent / "cache"


def keep_private() -> None:
    """Let the DVC that this process starts use the clone's site cache, whoever started this one."""
    if not os.environ.get(VARIABLE) and Path(".dvc").is_dir():
        os.environ[VARIABLE] = str(make_private())


def configure() -> int:
    """Let a bare `dvc` in this clone use it too, by .dvc/config.local; return DVC's exit code.

    The path is absolute, because DVC takes a relative one from the folder in which it is started.
    """
    if not Path(".dvc").is_dir():
        return 0
    command = [sys.executable, "-m", "dvc", "config", "--local", KEY]
    return subprocess.run([*command, str(make_private())]).returncode


def configured(root: Path = Path(".")) -> Path | None:
    """The site cache of a bare `dvc` in the clone `root`; None for DVC's default."""
    settings = configparser.ConfigParser()
    settings.read([root / ".dvc/config", root / ".dvc/config.local"], encoding="utf-8")
    folder = settings.get("core", "site_cache_dir", fallback="")
    return Path(folder) if folder else None


def other_owner(path: Path) -> str:
    """The name of the user whom a file or folder belongs to; empty if it is this user or nobody."""
    try:
        uid = path.stat().st_uid
    except FileNotFoundError:
        return ""
    if uid == os.getuid():
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user of another machine, or of a container
        return f"user {uid}"


def is_private(cache: Path) -> bool:
    """Whether no other user may enter the folder that contains a site cache."""
    try:
        status = cache.parent.stat()
    except FileNotFoundError:
        return False
    closed = stat.S_IMODE(status.st_mode) & 0o077 == 0
    return cache.is_absolute() and closed and status.st_uid == os.getuid()
