"""The app behind a socket: uvicorn, and a client that says nothing is not waited for."""

import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from reward.serving.limits import Limits

# What was accepted is answered before the server ends; a client that never reads its answer must not keep it.
_SECONDS_TO_ANSWER = 120


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any free one.

    Raises:
        OSError: the port is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    # inherited by what it accepts; asyncio sets it only on sockets that name their protocol, and an answer in two
    # packets would wait 40 ms for the client's delayed ACK
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def serve(app: Any, listening: socket.socket, limits: Limits) -> None:
    """Run the app until SIGTERM or Ctrl-C; then take no more requests, and answer those that were accepted."""
    server_of(app, limits).run(sockets=[listening])


def server_of(app: Any, limits: Limits) -> uvicorn.Server:
    """uvicorn's server of an app, not yet running."""
    config = uvicorn.Config(
        app, http=_protocol(limits.receive_seconds), ws="none", access_log=False, log_level="warning",
        limit_concurrency=limits.connections, timeout_graceful_shutdown=_SECONDS_TO_ANSWER, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    return uvicorn.Server(config)


def _protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol on h11, which bounds the size of a request's head; this also bounds the time it may take."""

    class PunctualProtocol(H11Protocol):
        _too_late: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self.conn.their_state is not h11.IDLE:  # the head is whole
                self._stop_watching()
            elif self._too_late is None:
                self._too_late = self.loop.call_later(seconds, self.transport.close)

        def _stop_watching(self) -> None:
            if self._too_late is not None:
                self._too_late.cancel()
                self._too_late = None

    return PunctualProtocol
