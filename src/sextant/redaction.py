"""Secrets are removed from every text that leaves the process: lines, tags, artifacts, reports.

A library's message may contain the address of a tracking server or a mirror with its password, so
no caller is trusted to remove it: standard output and error are wrapped when a command line starts.
"""

import os
import re
from typing import Any, TextIO
from urllib.parse import unquote

# Environment variables that are secrets, and those that may contain one: user and password, or a
# query such as `?token=...`.
SECRETS = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "NOTIFY_URL",
)
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "SEXTANT_MIRROR")
SHORTEST = 6  # characters of a secret that is looked for by itself; less would be in other words
HIDDEN = "***"

# The user of a URL ends at the last `@` before its path, because a password may contain `@`.
USER = re.compile(r"://[^\s/'\"<>]*@")
QUERY = re.compile(r"(://[^\s?'\"<>]*)\?[^\s)'\"<>]*")
SECRET_ARGUMENT = re.compile(
    r"([?&][^=&\s]*(?:token|secret|signature|credential|password|key|sig)[^=&\s]*=)[^&\s'\")<>]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """`text` without secrets, and without users and queries of URLs, which can be secrets."""
    return QUERY.sub(r"\1", USER.sub("://", without_secrets(text)))


def without_secrets(text: str) -> str:
    """`text` without the secrets of the environment, users of URLs, and secret arguments.

    Other arguments of URLs stay, so that the address of a page can still be opened.
    """
    for secret in environment_secrets():
        text = text.replace(secret, HIDDEN)
    if "://" not in text:
        return text
    return SECRET_ARGUMENT.sub(rf"\1{HIDDEN}", USER.sub("://", text))


def environment_secrets() -> list[str]:
    """The secrets in the environment as they may be written, the longest first."""
    secrets = {os.environ.get(name, "") for name in SECRETS}
    for name in ADDRESSES:
        _, separator, rest = os.environ.get(name, "").partition("://")
        if not separator:
            continue
        before_host, at, _ = rest.rpartition("@")
        if at and not rest.startswith("/"):  # it is no path, as that of a SQLite file
            password = before_host.partition(":")[2]
            secrets |= {before_host, password, unquote(password)}
        for argument in rest.partition("?")[2].split("&"):
            secrets.add(argument.partition("=")[2])
    return sorted((text for text in secrets if len(text) >= SHORTEST), key=len, reverse=True)


class Redacting:
    """A text stream that writes to `stream` what `without_secrets` leaves."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(without_secrets(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __repr__(self) -> str:
        return f"Redacting({self.stream!r})"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
