"""The coordinator: sockets and threads around the course of a run.

One thread serves each connection; `serve` itself watches over the round. One condition guards all state.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable

from everyflop.islands.admission import other_version
from everyflop.islands.course import Course
from everyflop.islands.messages import check_hello, check_standing, check_update
from everyflop.islands.roster import Member, Reply
from everyflop.islands.status import status_of
from everyflop.islands.wire import Broken, Connection, Header, is_whole, prove

TICK_S = 0.05
AFTER_THE_LAST_S = 0.3
"""How long the coordinator stays when the run has ended and every island has left."""

_RETRY: Reply = ({"kind": "retry", "seconds": 0.3}, b"")


class Coordinator:
    """Serves one run."""

    def __init__(self, course: Course):
        self.course = course
        self._changed = threading.Condition()
        self._states: dict[int, tuple[Header, memoryview] | None] = {}
        self._requests = 0
        self._hurried = False

    def serve(self, listening: socket.socket, secret: bytes, tls: ssl.SSLContext | None = None) -> str:
        """Serve islands until the run has ended and all of them have left; return how it ended."""
        threading.Thread(target=self._accept, args=(listening, secret, tls), daemon=True).start()
        empty_since_s: float | None = None
        while True:
            with self._changed:
                self._tick()  # before it waits: what happened since it waited last told nobody
                empty = bool(self.course.ended) and not self.course.roster.members
                self._changed.wait(TICK_S)
            now = self.course.now_s()
            empty_since_s = (empty_since_s or now) if empty else None
            if empty_since_s is not None and now - empty_since_s > AFTER_THE_LAST_S:
                listening.close()
                return self.course.ended

    def stop(self) -> None:
        """End the run at the next commit; islands cut their round short. A signal handler may call this."""
        self.course.stopping = True

    def _tick(self) -> None:
        """Look after the round. The lock is held."""
        for member, why in self.course.gone():
            member.lost = self.course.roster.given_up[member.name] = why
            self._drop(member, why)
        if self.course.stopping and not self._hurried and self.course.begins:
            self._hurried = True
            self._hurry()
        if self.course.advance():
            self._changed.notify_all()

    def _hurry(self) -> None:
        """Ask everyone to end the round after the step at hand."""
        for member in self.course.roster.members.values():
            if member.pulse is not None:
                with contextlib.suppress(Broken):
                    member.pulse.send({"kind": "hurry"})

    def _drop(self, member: Member, why: str) -> None:
        member.connection.close()
        if member.pulse is not None:
            member.pulse.close()
        self.course.drop(member, why)
        self._changed.notify_all()

    # -- connections ---------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket, secret: bytes, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                if listening.fileno() < 0:
                    return  # closed: the run is over
                time.sleep(TICK_S)  # strangers may hold all that this process can open, for as long as they may be mute
                continue
            try:
                threading.Thread(target=self._serve, args=(sock, secret, tls), daemon=True).start()
            except RuntimeError:  # no more threads just now: whoever calls will call again
                sock.close()

    def _serve(self, sock: socket.socket, secret: bytes, tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                sock.settimeout(10.0)
                sock = tls.wrap_socket(sock, server_side=True)
            prove(sock, secret, server=True)
            connection = Connection(sock)
            hello, _ = connection.receive(timeout_s=30.0)
        except OSError as error:
            self.course.listener.event("stranger", cause=str(error))
            sock.close()
            return
        serve = {"join": self._serve_island, "pulse": self._serve_pulse, "status": self._serve_status}
        with contextlib.closing(connection), contextlib.suppress(OSError):
            serve.get(str(hello.get("kind")), self._refuse)(connection, hello)

    def _refuse(self, connection: Connection, hello: Header) -> None:
        connection.send({"kind": "refused", "why": f"no conversation begins with '{hello.get('kind')}'"})

    def _serve_status(self, connection: Connection, _hello: Header) -> None:
        while True:
            with self._changed:
                status = status_of(self.course)
            connection.send(status)
            connection.receive()

    def _serve_pulse(self, connection: Connection, hello: Header) -> None:
        """Take an island's signs of life; through the same connection it is asked for its state."""
        members, now_s = self.course.roster.members, self.course.now_s
        with self._changed:
            give_up_s = now_s() + 2 * self.course.how.heartbeat_s
            while (member := members.get(str(hello.get("island")))) is None or member.session != hello.get("session"):
                if now_s() > give_up_s:
                    return
                self._changed.wait(TICK_S)  # it is not admitted yet: a process that was before it is still missed
            self.course.roster.charge(now_s())
            member.pulse = connection
            member.traffic()  # counted from here on: another pulse may have been there before
            if self._hurried:
                connection.send({"kind": "hurry"})
        while True:
            header, payload = connection.receive()
            with self._changed:
                now = self.course.now_s()
                member.last_seen_s = now
                if header["kind"] == "state":
                    if header["request"] in self._states:  # else who asked is gone
                        self._states[header["request"]] = (header, payload)
                        self._changed.notify_all()
                else:
                    member.note_sign(header, now)

    def _serve_island(self, connection: Connection, hello: Header) -> None:
        member = self._admit(connection, hello)
        if member is None:
            return
        why = "it broke off"
        try:
            header, payload = hello, memoryview(b"")
            while (kind := header.get("kind")) != "leave":
                ask = {"join": self._enter, "fetch": self._fetch, "hand_in": self._hand_in}
                if kind not in ask:
                    raise Broken(f"it sent '{kind}', which no island sends")
                connection.send(*ask[kind](member, header, payload))
                header, payload = connection.receive()
            why = "it left"
        except OSError as error:
            why = str(error)
        except (KeyError, TypeError, ValueError) as error:
            why = f"it sent what makes no sense: {error!r}"
        finally:
            with self._changed:
                self._drop(member, member.lost or why)

    def _admit(self, connection: Connection, hello: Header) -> Member | None:
        """Take an island in, or tell it why not."""
        try:
            check_hello(hello)
        except ValueError as error:
            connection.send({"kind": "refused", "why": f"it says of itself what makes no sense: {error}"})
            return None
        if why := other_version(hello.get("everyflop", "")):
            connection.send({"kind": "refused", "why": why})
            return None
        name = hello["island"]
        with self._changed:
            give_up_s = self.course.now_s() + self.course.how.heartbeat_s + 1.0
            while name in self.course.roster.members and self.course.now_s() < give_up_s:
                self._changed.wait(TICK_S)  # one that was killed a moment ago is about to be missed
            admitted = self.course.admit(name, hello, connection)
        if isinstance(admitted, Member):
            return admitted
        connection.send({"kind": "refused", "why": admitted})
        return None

    def _wait(self, member: Member, ready: Callable[[], Reply | None]) -> Reply:
        """Wait until there is a reply. The lock is held. Raises Broken when the member is lost before."""
        while (reply := ready()) is None:
            if member.lost:
                raise Broken(member.lost)
            self._changed.wait()
        return reply

    def _enter(self, member: Member, header: Header, _payload: memoryview) -> Reply:
        check_standing(header)
        with self._changed:
            self.course.stand(member, header)
            return self._wait(member, lambda: self.course.part(member))

    def _hand_in(self, member: Member, header: Header, payload: memoryview) -> Reply:
        whole = is_whole(header, payload)
        check_update(header)
        with self._changed:
            if (reply := self.course.take(member, header, payload, whole=whole)) is not None:
                return reply
            self._changed.notify_all()  # it may be the last one that the round waited for
            return self._wait(member, lambda: self.course.answer(member, header["round"]))

    def _fetch(self, joiner: Member, _header: Header, _payload: memoryview) -> Reply:
        """Get anchor and moments from an island that holds them."""
        with self._changed:
            donor = next(iter(self.course.donors(joiner)), None)
            if donor is None or donor.pulse is None:
                return _RETRY
            self._requests += 1
            request, pulse = self._requests, donor.pulse
            self._states[request], joiner.fetching = None, True
        try:
            pulse.send({"kind": "give_state", "request": request})
        except Broken:
            return _RETRY
        with self._changed:
            while self._states[request] is None and donor.pulse is pulse and not donor.lost and not joiner.lost:
                joiner.progressed_s = max(joiner.progressed_s, donor.progressed_s)
                self._changed.wait(TICK_S)
            state = self._states.pop(request)
            if state is None:
                return _RETRY
            self.course.listener.event("fetch", island=joiner.name, donor=donor.name)
            return {**state[0], "kind": "state"}, state[1]
