"""How a connection opens: address, secret, encryption."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from everyflop.base.errors import UsageError
from everyflop.islands.wire import Broken, Connection, connect, is_whole, parse_address, prove

SECRET = b"0123456789abcdef"
LONGEST_S = 5.0
"""No test waits that long unless something is wrong."""


@contextlib.contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    with one, other:
        yield one, other


def test_both_sides_of_a_shared_secret_talk(at_once):
    with sockets() as (one, other):
        results = at_once(lambda: prove(one, SECRET, server=True), lambda: prove(other, SECRET, server=False))

    assert results == [None, None]


def test_another_secret_is_refused_on_both_sides(at_once):
    with sockets() as (one, other):
        results = at_once(lambda: prove(one, SECRET, server=True), lambda: prove(other, b"guess", server=False))

    assert [str(error) for error in results] == ["it has another secret"] * 2
    assert all(isinstance(error, Broken) for error in results)


def test_a_mirror_does_not_know_the_secret():
    def mirror(sock: socket.socket) -> None:
        while data := sock.recv(4096):
            sock.sendall(data)

    with sockets() as (one, other):
        thread = threading.Thread(target=mirror, args=(other,), daemon=True)
        thread.start()
        with pytest.raises(Broken, match="another secret"):
            prove(one, SECRET, server=True)
        one.shutdown(socket.SHUT_RDWR)
        thread.join(LONGEST_S)


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n" * 10, b"everyflop-islands-0\n" + bytes(32), b"x", b""])
def test_who_speaks_another_protocol_is_refused(greeting: bytes):
    with sockets() as (one, other):
        other.sendall(greeting)
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(Broken, match=r"another protocol|closed the connection"):
            prove(one, SECRET, server=True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return cert, key


def first_message(listening: socket.socket, tls: ssl.SSLContext) -> tuple[str, bool]:
    """Take one connection; return what kind of message it brings first, and whether that is whole."""
    sock, _ = listening.accept()
    with tls.wrap_socket(sock, server_side=True) as wrapped:
        prove(wrapped, SECRET, server=True)
        header, payload = Connection(wrapped).receive(LONGEST_S)
        return header["kind"], is_whole(header, payload)


def test_an_encrypted_connection_works_as_an_open_one(at_once, certificate: tuple[Path, Path]):
    cert, key = certificate
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(cert))
    server.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def say() -> None:
            with contextlib.closing(connect(address, SECRET, tls=client)) as connection:
                connection.send({"kind": "join"}, bytes(100_000))

        assert at_once(lambda: first_message(listening, server), say) == [("join", True), None]


def test_one_thread_may_read_an_encrypted_connection_while_another_writes_it(at_once, certificate: tuple[Path, Path]):
    cert, key = certificate
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(cert))
    server.load_cert_chain(cert, key)
    with sockets() as (one, other):
        here, there = at_once(
            lambda: server.wrap_socket(one, server_side=True),
            lambda: client.wrap_socket(other, server_hostname="127.0.0.1"),
        )
        near, far = Connection(here), Connection(there)

        def write(connection: Connection) -> None:
            for number in range(3000):
                connection.send({"number": number}, bytes(20_000))

        def read(connection: Connection) -> list[int]:
            return [connection.receive(LONGEST_S)[0]["number"] for _ in range(3000)]

        results = at_once(*[lambda c=c, do=do: do(c) for c in (near, far) for do in (write, read)])
        near.close()
        far.close()

    assert results == [None, list(range(3000))] * 2


def test_a_certificate_that_nobody_vouches_for_is_refused(at_once, certificate: tuple[Path, Path]):
    cert, key = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        _, error = at_once(
            lambda: first_message(listening, server), lambda: connect(address, SECRET, tls=ssl.create_default_context())
        )

    assert isinstance(error, Broken)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


def test_where_nobody_listens_the_error_names_the_address():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

    with pytest.raises(Broken, match=address):
        connect(address, SECRET)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("10.0.0.1:7700", ("10.0.0.1", 7700)), ("host.example:1", ("host.example", 1)), ("[::1]:65535", ("::1", 65535))],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]):
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":7700", "host:0", "host:65536", "host:http", "host:-1", "host:²"]
)
def test_what_is_no_address_is_refused_with_how_to_write_one(address: str):
    with pytest.raises(UsageError, match="write HOST:PORT"):
        parse_address(address)
