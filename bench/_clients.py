"""Clients of a served model: each sends its next request when it has the answer to the last."""

import socket
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

END = b"\r\n\r\n"
LENGTH = b"content-length:"
PATIENCE = 120.0  # seconds for one answer


class Load(NamedTuple):
    """What clients have measured."""

    seconds: list[float]  # of each answered request
    failures: list[str]  # what came instead of an answer
    wall: float  # seconds from the first request to the last answer

    @property
    def throughput(self) -> float:
        """Answered requests a second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """The time in seconds that `share` of the requests do not exceed."""
        ranked = sorted(self.seconds)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


class Connection:
    """A connection that is kept open, in the least of Python, which shares the cores."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a whole request; the status and the body of the response."""
        self.socket.sendall(request)
        received = b""
        while END not in received:
            received += self._read()
        head, _, body = received.partition(END)
        status = int(head.split(b" ", 2)[1])
        _, has_length, length = head.lower().partition(LENGTH)
        if not has_length:
            return status, self._chunks(body)
        while len(body) < int(length.partition(b"\r\n")[0]):
            body += self._read()
        return status, body

    def _chunks(self, received: bytes) -> bytes:
        """The body of a response that is sent in chunks, each after its length."""
        body = b""
        while True:
            while b"\r\n" not in received:
                received += self._read()
            head, _, received = received.partition(b"\r\n")
            size = int(head, 16)
            while len(received) < size + 2:
                received += self._read()
            body += received[:size]
            received = received[size + 2 :]
            if size == 0:
                return body

    def _read(self) -> bytes:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the server has closed the connection")
        return part


def post(port: int, body: bytes, path: str = "/invocations") -> bytes:
    """A request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(port: int, path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def load(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    """Let clients send requests one after the other for some seconds."""
    requests = [post(port, body) for body in bodies]
    times: list[list[float]] = [[] for _ in range(clients)]
    failures: list[str] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        turn = number * len(requests) // clients
        try:
            with Connection(port) as connection:
                while (begun := time.perf_counter()) < end:
                    status, body = connection.ask(requests[turn % len(requests)])
                    times[number].append(time.perf_counter() - begun)
                    if status != 200:
                        failures.append(f"{status}: {body[:200]!r}")
                    turn += 1
        except (OSError, ValueError, IndexError) as error:
            failures.append(f"{type(error).__name__}: {error}")

    begun = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = [value for part in times for value in part]
    return Load(together, failures, time.perf_counter() - begun)
