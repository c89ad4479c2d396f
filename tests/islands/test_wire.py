import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.islands.link import Link
from everyflop.islands.wire import Broken, Connection, is_whole

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


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    with sockets() as (one, other):
        yield Connection(one), Connection(other)


def from_stranger(data: bytes) -> Connection:
    """Return the end of a connection on which a stranger sent some bytes and hung up."""
    with sockets() as (one, other):
        one.sendall(data)
        return Connection(other.dup())


def message(text: bytes, n_payload: int = 0) -> bytes:
    return struct.pack("!IQ", len(text), n_payload) + text


def test_header_and_payload_arrive_as_they_were_sent(ends):
    here, there = ends
    here.send({"kind": "hand_in", "steps": 3, "why": "ünïcode"}, b"\0\1\2")
    header, payload = there.receive(LONGEST_S)

    assert (header["kind"], header["steps"], header["why"]) == ("hand_in", 3, "ünïcode")
    assert bytes(payload) == b"\0\1\2"
    assert is_whole(header, payload)


def test_messages_arrive_one_by_one_in_their_order_both_ways(ends):
    here, there = ends
    for number in range(3):
        here.send({"number": number}, bytes(number))
    there.send({"number": 9})

    assert [there.receive(LONGEST_S)[0]["number"] for _ in range(3)] == [0, 1, 2]
    assert here.receive(LONGEST_S)[0] == {"number": 9}


def test_a_payload_larger_than_any_buffer_arrives_whole(at_once, ends):
    here, there = ends
    large = bytes(range(256)) * 40_000
    _, received = at_once(lambda: here.send({}, large), lambda: there.receive(LONGEST_S))

    assert isinstance(received, tuple)
    assert bytes(received[1]) == large
    assert here.sent_bytes == there.received_bytes > len(large)


def test_messages_of_several_threads_do_not_mix(at_once, ends):
    here, there = ends
    received = []

    def receive_all() -> None:
        received.extend(there.receive(LONGEST_S) for _ in range(8))

    senders = [lambda n=n: here.send({"n": n}, bytes([n]) * 300_000) for n in range(8)]
    at_once(receive_all, *senders)

    assert sorted(header["n"] for header, _ in received) == list(range(8))
    assert all(bytes(payload) == bytes([header["n"]]) * 300_000 for header, payload in received)


def test_a_flipped_bit_in_a_payload_is_told(ends):
    here, there = ends
    here.send({}, bytes(1000))
    header, payload = there.receive(LONGEST_S)
    payload[700] ^= 1

    assert not is_whole(header, payload)


def test_a_payload_without_a_checksum_is_not_whole():
    assert not is_whole({}, memoryview(b"x"))
    assert is_whole({}, memoryview(b""))


@settings(max_examples=60)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(message))
def test_garbage_is_broken_or_a_message_and_nothing_else(garbage: bytes):
    with contextlib.closing(from_stranger(garbage)) as connection, contextlib.suppress(Broken):
        header, _ = connection.receive(LONGEST_S)

        assert isinstance(header, dict)  # chance writes "{}" now and then


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!IQ", 2**32 - 1, 0),
        message(b"{}", 2**63 - 1),
        message(b"{}", 2**64 - 1),
        message(b"[" * 100_000),
        message(b"[1]"),
        message(b'"text"'),
        message(b"\xff\xfe\xfd"),
    ],
    ids=["long header", "huge payload", "larger than any memory", "deep", "list", "text", "no UTF-8"],
)
def test_what_no_message_looks_like_is_broken(data: bytes):
    with contextlib.closing(from_stranger(data)) as connection, pytest.raises(Broken):
        connection.receive(LONGEST_S)


@pytest.mark.parametrize("sent", [0, 5, 15, 40])
def test_a_peer_that_dies_in_the_middle_of_a_message_is_broken(sent: int):
    whole = message(json.dumps({"kind": "hand_in"}).encode(), 100) + bytes(50)

    with contextlib.closing(from_stranger(whole[:sent])) as connection, pytest.raises(Broken, match="closed"):
        connection.receive(LONGEST_S)


def test_sending_to_a_peer_that_is_gone_is_broken(ends):
    here, there = ends
    there.close()

    with pytest.raises(Broken, match="sending failed"):
        here.send({}, bytes(100_000_000))


def test_closing_wakes_whoever_waits_for_a_message(at_once, ends):
    here, _ = ends
    waiting = threading.Event()

    def receive() -> object:
        waiting.set()
        return here.receive()

    def close() -> None:
        waiting.wait(LONGEST_S)
        here.close()

    assert isinstance(at_once(receive, close)[0], Broken)


def test_a_connection_that_was_closed_here_is_broken_for_who_reads_on(ends):
    here, _ = ends
    here.close()

    with pytest.raises(Broken):
        here.receive()
    with pytest.raises(Broken):
        here.send({})


def test_a_silent_peer_is_asked_whether_it_is_there(ends):
    for end in ends:
        assert end._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert end._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60


def test_a_peer_that_confirms_nothing_is_gone_after_a_minute(ends):
    for end in ends:
        assert end._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_silence_can_be_waited_out(ends):
    with pytest.raises(TimeoutError):
        ends[0].receive(timeout_s=0.01)


def test_a_simulated_link_paces_both_ways_and_delays_each_message_sent():
    slept_s: list[float] = []
    link = Link(gbit_per_s=0.008, latency_ms=250, now_s=lambda: 0.0, sleep=slept_s.append)
    with sockets() as (one, other):
        near, far = Connection(one, link), Connection(other)
        near.send({}, bytes(1_000_000 - 4096))
        header, payload = far.receive(LONGEST_S)
        far.send(header, payload)
        near.receive(LONGEST_S)

    assert slept_s[0] == 0.25
    assert slept_s.count(0.25) == 1
    assert max(slept_s) == pytest.approx(1.0, rel=0.01)  # a MB at 1 MB/s, each way by itself
