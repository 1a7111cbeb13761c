"""The log of a service: one line for each request, and the id of the request in every line."""

import logging
import re
import secrets
import sys
from contextvars import ContextVar

# The id of the request that is answered; also in threads that asyncio starts for it.
REQUEST: ContextVar[str] = ContextVar("request", default="-")
FORMAT = "%(asctime)s %(levelname)s %(request)s %(message)s"
ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # an id that a caller may choose

log = logging.getLogger("sextant.serve")


class WithRequest(logging.Formatter):
    """Adds the id of the request to every line, also those of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        record.request = REQUEST.get()
        return " ".join(super().format(record).splitlines())


def request_id(header: bytes | None) -> str:
    """The id in the header X-Request-ID, if it is a plain one, or a new one."""
    if header is not None and ACCEPTED.fullmatch(header):
        return header.decode("ascii")
    return secrets.token_hex(8)


def configure() -> None:
    """Let all loggers of this process write to standard error in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithRequest(FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # Each attempt to reach a tracking server; the service has one line when all have failed.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
