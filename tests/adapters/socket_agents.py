"""Agents at the other end of Unix sockets, as QEMU offers them: the real agent, without a machine around it."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from forestall.guest.__main__ import serve
from forestall.guest.agent import Agent
from forestall.guest.pace import Pace
from forestall.guest.ports import Line


class SocketLine(Line):
    """A line that is gone for good when the other end hangs up."""

    def forget(self) -> None:
        """End the agent."""
        raise OSError("hung up")


class SocketAgent:
    """An agent that serves one connection after the other, each a new agent (as after ``kill -9``).

    Parameters
    ----------
    path
        Socket to offer.
    root
        Folder that stands for the machine's root.
    """

    def __init__(self, path: Path, root: Path = Path("/")) -> None:
        self.path, self.root = path, root
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(1)
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connection, _ = self.server.accept()
                line = SocketLine(self.connection.fileno())
                agent = Agent(line.send, self.root / "hint.json", self.root, Pace(0.05, 1.0), system_calls=False)
                with self.connection, contextlib.closing(agent), contextlib.suppress(OSError):
                    serve(agent, line)

    def hang_up(self) -> None:
        """End the connection; the next one gets a new agent."""
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End for good."""
        self.server.close()
        self.hang_up()
