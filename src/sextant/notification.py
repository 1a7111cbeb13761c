"""A message to a webhook, such as that of a chat: NOTIFY_URL, which is a secret."""

import os
import sys
from collections.abc import Mapping

import requests

from .redaction import without_secrets

VARIABLE = "NOTIFY_URL"
TIMEOUT = (10, 30)  # seconds to connect, and for the answer
LINES = 12  # of the summary


def send(outcome: str, code: int, summary: str, links: Mapping[str, str]) -> bool:
    """POST an outcome as JSON, if NOTIFY_URL is set; whether it was delivered.

    `text` is what a chat shows: the first lines of the summary and the links. A failure is a
    warning on standard error, because the retraining itself has ended.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        return False
    lines = [line for line in summary.splitlines() if line.strip()][:LINES]
    lines += [f"{label}: {link}" for label, link in links.items()]
    message = {
        "text": without_secrets("\n".join(lines)),
        "outcome": outcome,
        "code": code,
        "links": dict(links),
    }
    try:
        requests.post(address, json=message, timeout=TIMEOUT).raise_for_status()
    except requests.RequestException as error:
        # The message of the exception contains the address.
        reason = type(error).__name__
        if isinstance(error, requests.HTTPError) and error.response is not None:
            reason = f"HTTP {error.response.status_code}"
        print(
            f"sextant: warning: the message to {VARIABLE} was not delivered: {reason}",
            file=sys.stderr,
        )
        return False
    return True
