"""Where switches connect: os-ken speaks OpenFlow with them, each in threads of its own.

os-ken's own server is not used: it cannot be ended, and knows no sockets of the file system with a mode of their own.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import controller, ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.ofproto import ofproto_protocol
from os_ken.ofproto import ofproto_v1_3 as ofp

from forestall.adapters.openvswitch.session import Session
from forestall.model.errors import BadInput, FabricError, in_one_line

MOST_CONNECTIONS = 1_024
ECHO_SECONDS, MOST_UNANSWERED = 2.0, 3
GREETING_SECONDS = 10.0
PacketIn = Callable[[Session, int, bytes], None]


class _Listener(OFPHandler):  # type: ignore[misc]
    """os-ken's own application, which greets switches; whatever else is heard is handed on at once."""

    def __init__(self, hear: Callable[[Any], None]) -> None:
        super().__init__()
        self._hear = hear

    def send_event_to_observers(self, ev: Any, state: Any = None) -> None:
        self._hear(ev)


class Door:
    """Listens for switches.

    Parameters
    ----------
    listen
        ``punix:PATH`` or ``ptcp:PORT[:ADDRESS]``, as ovs-vsctl(8) calls it; ``pssl:PORT[:ADDRESS]`` with ``context``.
    changed
        Called after a switch or a port has come or gone.
    heard
        Called with packets that switches send us.
    context
        Certificates, for ``pssl``.
    note
        Takes one line for the operator.

    Raises
    ------
    BadInput
        ``listen`` means nothing.
    FabricError
        The address is taken.
    """

    def __init__(
        self,
        listen: str,
        changed: Callable[[], None],
        heard: PacketIn,
        context: ssl.SSLContext | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._changed, self._heard, self._context, self._note = changed, heard, context, note
        self._said = ""
        self.sessions: dict[int, Session] = {}
        self._of: dict[Any, Session] = {}
        self._turn = threading.Lock()
        self._open = 0
        self._server, self._path = _listening(listen)
        cfg.CONF([], project="forestall", default_config_files=[], default_config_dirs=[])
        cfg.CONF.set_override("echo_request_interval", ECHO_SECONDS)
        cfg.CONF.set_override("maximum_unreplied_echo_requests", MOST_UNANSWERED)
        ofproto_protocol.set_app_supported_versions([ofp.OFP_VERSION])
        self._listener = _Listener(self._hear)
        app_manager.register_app(self._listener)
        self._thread = threading.Thread(target=self._serve, name="openflow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let all switches go; they keep what they were told."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        with self._turn:
            sessions = list(self._of.values())
        for session in sessions:
            session.close()
        app_manager.unregister_app(self._listener)

    def _serve(self) -> None:
        while True:
            try:
                connection, address = self._server.accept()
            except OSError:
                return
            if self._open >= MOST_CONNECTIONS:
                connection.close()
                continue
            self._open += 1
            threading.Thread(target=self._greet, args=(connection, address), name="switch", daemon=True).start()

    def _greet(self, connection: socket.socket, address: Any) -> None:
        try:
            self._speak(connection, address)
        except Exception as error:  # whatever a switch sends: it is that connection that ends
            if (said := in_one_line(error)) != self._said:
                self._note(f"a connection of a switch ends: {said}")
            self._said = said
        finally:
            self._open -= 1

    def _speak(self, connection: socket.socket, address: Any) -> None:
        with connection:
            connection.settimeout(GREETING_SECONDS)
            spoken = connection
            if self._context is not None:
                spoken = self._context.wrap_socket(connection, server_side=True)
            controller.datapath_connection_factory(_Spoken(spoken), address)

    def _hear(self, event: Any) -> None:
        if isinstance(event, ofp_event.EventOFPStateChange):
            self._state_is(event.datapath, event.state)
            return
        message = getattr(event, "msg", None)
        session = self._of.get(message.datapath) if message is not None else None
        if session is None or message is None:
            return
        if isinstance(event, ofp_event.EventOFPPortStatus):
            if message.reason == ofp.OFPPR_DELETE:
                session.port_is_gone(message.desc.port_no)
            else:
                session.port_is(message.desc)
            self._changed()
        elif isinstance(event, ofp_event.EventOFPPacketIn):
            self._heard(session, message.match["in_port"], message.data)
        else:
            session.hear(message)

    def _state_is(self, datapath: Any, state: Any) -> None:
        if state == MAIN_DISPATCHER:
            session = Session(datapath)
            with self._turn:
                before = self.sessions.get(session.number)
                self.sessions[session.number] = self._of[datapath] = session
            if before is not None:
                before.end()
                before.close()
        elif state == DEAD_DISPATCHER:
            with self._turn:
                session_or_none = self._of.pop(datapath, None)
                if session_or_none is None:
                    return
                if self.sessions.get(session_or_none.number) is session_or_none:
                    del self.sessions[session_or_none.number]
            session_or_none.end()
        else:
            return
        self._changed()


class _Spoken:
    """A socket of which os-ken may think that it is one of TCP."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner

    def setsockopt(self, *options: Any) -> None:
        with suppress(OSError):
            self._inner.setsockopt(*options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _listening(listen: str) -> tuple[socket.socket, Path | None]:
    kind, _, rest = listen.partition(":")
    try:
        if kind == "punix" and rest:
            path = Path(rest)
            _make_room(path)
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            os.fchmod(server.fileno(), 0o600)
            server.bind(str(path))
            server.listen()
            return server, path
        if kind in ("ptcp", "pssl"):
            port, _, address = rest.partition(":")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return socket.create_server((address.strip("[]") or "127.0.0.1", int(port)), family=family), None
    except (ValueError, OverflowError):
        pass
    except OSError as error:
        raise FabricError(f"{listen}: cannot be listened at: {error.strerror}") from error
    raise BadInput(f"{listen!r} is none of punix:PATH, ptcp:PORT[:ADDRESS] and pssl:PORT[:ADDRESS]")


def _make_room(path: Path) -> None:
    """Remove a socket that nobody listens at; anything else is left, and in the way."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
