"""Messages between coordinator and islands: a JSON header and bytes, over TCP. Nothing is ever unpickled.

    4 bytes length of the header | 8 bytes length of the payload | header (JSON, UTF-8) | payload

A connection opens with a proof of the shared secret by both sides (HMAC of the other's nonce), so that neither talks
to a stranger. A payload's checksum is in the header, which tells a flipped bit from a sound update. For privacy on an
open network give `tls`, or use a tunnel: the secret alone encrypts nothing.
"""

import contextlib
import hashlib
import hmac
import json
import secrets
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from everyflop.base.errors import UsageError
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Payload
from everyflop.islands.link import PACED_BYTES, Link

_HEAD = struct.Struct("!IQ")
_MOST_HEADER_BYTES = 64 << 20
_NONCE_BYTES = 32
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 60_000}
"""Seconds of silence before the system asks whether the other side is there, seconds between questions, how many; and
milliseconds until what it does not confirm is lost, for nobody asks while an answer is due."""
CHUNK_BYTES = 1 << 20
"""What is given to a socket at once."""
_MAGIC = b"everyflop-islands-5\n"

Header = dict[str, Any]


class Broken(ConnectionError):
    """The other side is gone, or does not speak this protocol."""


class Connection:
    """One side of an open connection. Sending and receiving may happen in different threads."""

    def __init__(self, sock: socket.socket, link: Link | None = None):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _watch_over(sock)
        self._sock, self._link = sock, link
        self._chunk_bytes = PACED_BYTES if link else CHUNK_BYTES
        self._sending = threading.Lock()
        self._timeout_s: float | None = None
        self._openssl = threading.Lock() if isinstance(sock, ssl.SSLSocket) else None
        """Held in every call into OpenSSL, which corrupts a connection that one thread reads while another writes."""
        sock.settimeout(None if self._openssl is None else 0.0)
        self.sent_bytes = self.received_bytes = 0

    def send(self, header: Header, payload: Payload = b"") -> None:
        """Send one message; a payload's checksum is computed unless the header has it. Raises Broken when the other
        side is gone."""
        if len(payload) and "checksum" not in header:
            header = {**header, "checksum": checksum(payload)}
        text = json.dumps(header).encode()
        with self._sending:
            if self._link:
                self._link.message()
            self._send_all(memoryview(_HEAD.pack(len(text), len(payload)) + text))
            self._send_all(memoryview(payload))

    def receive(self, timeout_s: float | None = None) -> tuple[Header, memoryview]:
        """Wait for one message. Raises Broken when the other side is gone or its bytes make no sense, TimeoutError."""
        self._wait_at_most(timeout_s)
        n_header, n_payload = _HEAD.unpack(self._receive_exactly(_HEAD.size))
        if n_header > _MOST_HEADER_BYTES:
            raise Broken("a header too long for any message")
        self._wait_at_most(None)
        try:
            header = json.loads(bytes(self._receive_exactly(n_header)), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise Broken(f"a header that is no JSON: {error}") from None
        if not isinstance(header, dict):
            raise Broken("a header that is no table")
        return header, self._receive_exactly(n_payload)

    def arrives(self, within_s: float) -> bool:
        """Wait for the other side at most so long; return whether there is something to receive, or an end to see."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(self._sock, ssl.SSLSocket) and self._openssl is not None:
                with self._openssl:
                    if self._sock.pending():
                        return True
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            return bool(poll.poll(within_s * 1000))
        return True  # it was closed, which receiving says

    def close(self) -> None:
        """End the connection; whoever waits on it gets Broken."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _wait_at_most(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        try:
            if self._openssl is None:
                self._sock.settimeout(timeout_s)
        except OSError as error:
            raise Broken(f"receiving failed: {error}") from error

    def _send_chunk(self, chunk: memoryview) -> None:
        if self._openssl is None:
            self._sock.sendall(chunk)
        while self._openssl is not None and len(chunk):
            chunk = chunk[self._alone(lambda: self._sock.send(chunk), None) :]  # noqa: B023

    def _alone(self, call: Callable[[], int], timeout_s: float | None) -> int:
        """Make a call on the socket; over TLS alone, and waiting for the other side without keeping others from it."""
        while self._openssl is not None:
            with self._openssl:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
            poll = select.poll()
            poll.register(self._sock, wanted)
            if not poll.poll(None if timeout_s is None else timeout_s * 1000):
                raise TimeoutError("timed out")
        return call()

    def _send_all(self, data: memoryview) -> None:
        try:
            for first in range(0, len(data), self._chunk_bytes):
                chunk = data[first : first + self._chunk_bytes]
                if self._link:
                    self._link.pace("up", len(chunk))
                self._send_chunk(chunk)
                self.sent_bytes += len(chunk)
        except OSError as error:
            raise Broken(f"sending failed: {error}") from error

    def _receive_exactly(self, n: int) -> memoryview:
        try:
            buffer = np.empty(n, dtype=np.uint8).data
        except (MemoryError, OverflowError, ValueError):
            raise Broken(f"a payload of {n} bytes, which no message has") from None
        filled = 0
        while filled < n:
            end = min(n, filled + self._chunk_bytes)
            try:
                got = self._alone(lambda: self._sock.recv_into(buffer[filled:end]), self._timeout_s)  # noqa: B023
            except TimeoutError:
                raise
            except OSError as error:
                raise Broken(f"receiving failed: {error}") from error
            if not got:
                raise Broken("the other side closed the connection")
            if self._link:
                self._link.pace("down", got)
            filled += got
            self.received_bytes += got
        return buffer


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _watch_over(sock: socket.socket) -> None:
    """Notice a machine that lost power, which never says that it is gone, where nothing but waiting is left to do."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_whole(header: Header, payload: memoryview) -> bool:
    """Whether a payload is what was sent."""
    return not len(payload) or checksum(payload) == header.get("checksum")


def prove(connection_socket: socket.socket, secret: bytes, *, server: bool) -> None:
    """Exchange nonces and proofs of the secret. Raises Broken when the other side does not know it."""
    mine = secrets.token_bytes(_NONCE_BYTES)
    try:
        connection_socket.settimeout(10.0)
        connection_socket.sendall(_MAGIC + mine)
        hello = _exactly(connection_socket, len(_MAGIC) + _NONCE_BYTES)
        if hello[: len(_MAGIC)] != _MAGIC:
            raise Broken("it speaks another protocol, or another version of this one")
        theirs = hello[len(_MAGIC) :]
        connection_socket.sendall(_proof(secret, theirs, b"server" if server else b"island"))
        proof = _exactly(connection_socket, hashlib.sha256().digest_size)
        if not hmac.compare_digest(proof, _proof(secret, mine, b"island" if server else b"server")):
            raise Broken("it has another secret")
        connection_socket.settimeout(None)
    except OSError as error:
        raise error if isinstance(error, Broken) else Broken(str(error)) from error


def _proof(secret: bytes, nonce: bytes, side: bytes) -> bytes:
    return hmac.new(secret, side + nonce, hashlib.sha256).digest()


def _exactly(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        part = sock.recv(n - len(data))
        if not part:
            raise Broken("it closed the connection before it proved the secret: is the secret the same on both sides?")
        data += part
    return data


def connect(
    address: str, secret: bytes, *, link: Link | None = None, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0
) -> Connection:
    """Connect to HOST:PORT and prove the secret. Raises Broken, and UsageError for an address that is none."""
    host, port = parse_address(address)
    try:
        sock = socket.create_connection((host, port), timeout=timeout_s)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=host)
        prove(sock, secret, server=False)
    except OSError as error:
        raise error if isinstance(error, Broken) else Broken(f"{address}: {error}") from error
    return Connection(sock, link)


def parse_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT. Raises UsageError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"'{address}' is no address: write HOST:PORT, such as 10.0.0.1:7700.")
    return host.strip("[]"), int(port)
