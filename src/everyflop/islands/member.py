"""An island's side of the protocol: join, hand in, give its state to those who come, show that it lives."""

import contextlib
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from everyflop.base.errors import UsageError
from everyflop.base.version import VERSION
from everyflop.islands.codec import Payload
from everyflop.islands.link import Link
from everyflop.islands.wire import Broken, Connection, Header, connect, is_whole

RECONNECT_EVERY_S = 0.5
PULSES_A_HEARTBEAT = 4

State = tuple[Header, Payload]


def is_under_way(address: str, secret: bytes, *, tls: ssl.SSLContext | None = None) -> bool:
    """Whether islands train there just now: one that joins gets its state from them then, and needs no checkpoint."""
    try:
        with contextlib.closing(connect(address, secret, tls=tls)) as connection:
            connection.send({"kind": "status"})
            status, _ = connection.receive(timeout_s=10.0)
    except (Broken, TimeoutError):
        return False
    return status.get("exchange") is not None


class Ended(Exception):
    """The run is over."""

    def __init__(self, how: str, leader: str):
        self.how, self.leader = how, leader
        super().__init__(how)


@dataclass(slots=True)
class Standing:
    """Where an island stands: the number of the round whose anchor it holds, its hash, and the last commit."""

    round: int
    hash: str
    record: dict[str, Any] | None
    arithmetic: str = ""
    """How it rounds: while gradients are exchanged, only who rounds alike has the same weights in every bit."""


class Member:
    """A connection to the coordinator that outlives the coordinator's process."""

    def __init__(
        self,
        island: str,
        address: str,
        secret: bytes,
        *,
        facts: dict[str, Any],
        tokens_per_s: float,
        heartbeat_s: float,
        give_state: Callable[[], State],
        patience_s: float = 120.0,
        link: Link | None = None,
        tls: ssl.SSLContext | None = None,
    ):
        self.island, self.address = island, address
        self.facts, self.tokens_per_s, self.patience_s = facts, tokens_per_s, patience_s
        self._secret, self._link, self._tls = secret, link, tls
        self._give_state, self._heartbeat_s = give_state, heartbeat_s
        self._main: Connection | None = None
        self._pulse: Connection | None = None
        self._pulse_lost = False
        self.hurry = threading.Event()
        """Set when the round is to end after the step at hand: the run stops, or the coordinator is gone."""
        self.progress, self.step_s, self._busy = 0, 0.0, False
        """What the pulse tells: a count that grows with every step, how long the last one took, and whether this island
        does what has no steps."""
        self._session = ""
        """Tells the coordinator which pulse is whose, where a dead process of this island still has a connection."""
        self.send_s = 0.0
        """How long it took to send the last update."""
        self.stopping: Callable[[], bool] = lambda: False
        """Whether this process was asked to stop: it waits for no coordinator then."""
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def join(self, standing: Standing) -> Header:
        """Say where this island stands; return its part in a round, or {"kind": "fetch"} if it has an old anchor.

        Raises UsageError when the island is refused or no coordinator is found, Ended when the run is over.
        """
        message = {"kind": "join", "round": standing.round, "hash": standing.hash, "record": standing.record}
        message |= {"fresh": not self.progress, "arithmetic": standing.arithmetic}
        while True:
            try:
                fresh = self._main is None
                main = self._connected()
                if fresh:
                    self._session = secrets.token_hex(8)
                    hello: Header = {"island": self.island, "session": self._session, "facts": self.facts}
                    hello |= {"everyflop": VERSION, "tokens_per_s": self.tokens_per_s}
                    main.send({**message, **hello})
                    self._open_pulse()
                else:
                    main.send(message)
                while not main.arrives(RECONNECT_EVERY_S):  # until others have come, which may take minutes
                    if self.stopping():
                        raise Ended("stopped", "")
                reply, _ = main.receive()
                return _checked(reply)
            except Broken:
                self._disconnect()

    def fetch(self) -> tuple[Header, memoryview] | None:
        """Return another island's state; None when nobody could give it just now, or the coordinator is gone."""
        if self._main is None:
            return None
        try:
            self._main.send({"kind": "fetch"})
            reply, payload = self._main.receive()
        except Broken:
            self._disconnect()
            return None
        if reply["kind"] == "retry":
            time.sleep(reply["seconds"])
        return (_checked(reply), payload) if reply["kind"] == "state" and is_whole(reply, payload) else None

    def hand_in(self, header: Header, payload: Payload) -> tuple[Header, memoryview] | None:
        """Hand an update in, wait for the commit, and return it; None when the coordinator is gone: join again."""
        if self._main is None:
            return None
        started_s = time.monotonic()
        try:
            self._mend_pulse()
            self._main.send({"kind": "hand_in", **header}, payload)
            self.send_s = time.monotonic() - started_s
            reply, merged = self._main.receive()
            self._mend_pulse()
        except Broken:
            self._disconnect()
            return None
        if not is_whole(reply, merged):
            self._disconnect()
            return None
        return _checked(reply), merged

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Show that this island saves or validates while the block runs: it does no steps, and does not hang."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def leave(self) -> None:
        """Say goodbye."""
        self._closed.set()
        with contextlib.suppress(Broken):
            if self._main is not None:
                self._main.send({"kind": "leave"})
        self._disconnect()
        for thread in self._threads:  # one that is left when the interpreter ends can abort the process
            thread.join(timeout=5.0)

    def _connected(self) -> Connection:
        """Return the connection, making one for as long as patience lasts, or until this process is to stop."""
        give_up_s = time.monotonic() + self.patience_s
        while self._main is None:
            try:
                self._main = connect(self.address, self._secret, link=self._link, tls=self._tls)
            except Broken as error:
                if self.stopping():
                    raise Ended("stopped", "") from None
                if time.monotonic() > give_up_s or "secret" in str(error) or "protocol" in str(error):
                    raise UsageError(
                        f"the coordinator at {self.address} cannot be reached: {error}. Check the address and the "
                        "secret, and that `everyflop coordinator` runs there."
                    ) from None
                time.sleep(RECONNECT_EVERY_S)
        return self._main

    def _disconnect(self) -> None:
        connections, self._main, self._pulse = (self._main, self._pulse), None, None
        for connection in connections:
            if connection is not None:
                connection.close()

    def _mend_pulse(self) -> None:
        """Open another pulse where only that broke."""
        if self._pulse_lost:
            self._open_pulse()

    def _open_pulse(self) -> None:
        pulse = connect(self.address, self._secret, link=self._link, tls=self._tls)
        pulse.send({"kind": "pulse", "island": self.island, "session": self._session})
        self._pulse, self._pulse_lost = pulse, False
        self.hurry.clear()
        works = (self._beat, self._listen)
        self._threads = [threading.Thread(target=work, args=(pulse,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def _beat(self, pulse: Connection) -> None:
        with contextlib.suppress(Broken):
            while pulse is self._pulse and not self._closed.is_set():
                pulse.send({"kind": "pulse", "progress": self.progress, "step_s": self.step_s, "busy": self._busy})
                self._closed.wait(self._heartbeat_s / PULSES_A_HEARTBEAT)

    def _listen(self, pulse: Connection) -> None:
        try:
            with contextlib.suppress(Broken):
                while True:
                    message, _ = pulse.receive()
                    if message["kind"] == "hurry":
                        self.hurry.set()
                    elif message["kind"] == "give_state":
                        header, payload = self._give_state()
                        pulse.send({**header, "kind": "state", "request": message["request"]}, payload)
        finally:
            if pulse is self._pulse and not self._closed.is_set():
                # Nobody has closed it here: the coordinator is gone, and waits for all once it is back; or there was no
                # memory for the state, and whoever waits for that must hear of it.
                pulse.close()
                self._pulse_lost = True
                self.hurry.set()


def _checked(reply: Header) -> Header:
    if reply["kind"] == "refused":
        raise UsageError(f"the coordinator refuses this island: {reply['why']}")
    if reply["kind"] == "ended":
        raise Ended(reply["how"], reply["leader"])
    return reply
