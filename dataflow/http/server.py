"""A server for an application, on uvicorn. It listens on this machine only, unless it is told otherwise."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"
PORT = 8000


def listen(host: str = HOST, port: int = PORT) -> socket.socket:
    """Return a socket that takes connections.

    Parameters
    ----------
    host : str
        The address, or a name of it; one of IPv6 has colons.
    port : int
        The port; 0 for one that is free.

    Raises
    ------
    OSError
        Where it cannot, as when another process has the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def address(listener: socket.socket) -> str:
    """Return where a socket is reached, as one writes it into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, listener: socket.socket, *, grace: float) -> None:
    """Answer requests until SIGTERM or SIGINT, and then finish those under way.

    The signal then goes on to whoever handled it before.

    Parameters
    ----------
    app : FastAPI
        The application.
    listener : socket
        The socket. It is closed in the end.
    grace : float
        Seconds in which to finish; what is still under way then is cancelled.

    Raises
    ------
    ImportError
        Where uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError("serving a flow needs uvicorn: pip install 'dataflow[http]'") from error
    config = uvicorn.Config(app, log_level="warning", lifespan="off", ws="none", server_header=False)
    config.timeout_graceful_shutdown = grace  # type: ignore[assignment]  # asyncio.wait_for's, which takes fractions
    uvicorn.Server(config).run(sockets=[listener])
