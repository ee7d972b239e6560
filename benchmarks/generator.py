"""A load generator for HTTP/1.1: connections that are kept open, each with one request under way.

It runs on the machine that it loads, so it does as little as it can: one thread, a callback for each answer, no parsing
of what is not needed. A client library would take longer than some of the servers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from dataflow.bench.load import Traffic


class _Connection(asyncio.Protocol):
    """One connection: sends a request, and the next one when the answer is there."""

    def __init__(self) -> None:
        self.round: _Round | None = None
        self.lost = False
        self._transport: Any = None
        self._read = b""
        self._place = -1
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, round_: _Round) -> None:
        """Send the next request, if there is one."""
        self._place, request = next(round_.requests, (-1, b""))
        if request:
            self.round = round_
            self._sent = perf_counter()
            self._transport.write(request)
        else:
            self.round = None
            round_.left()

    def data_received(self, data: bytes) -> None:
        round_ = self.round
        if round_ is None:
            return
        self._read += data
        end = self._read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._read[:end].lower()
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if not found:
            round_.broken(ValueError(f"an answer without a length: {head!r}"))
            return
        stop = end + 4 + int(rest.partition(b"\r\n")[0])
        if len(self._read) < stop:
            return
        round_.taken.append(perf_counter() - self._sent)
        round_.answers[self._place] = head[9:12], self._read[end + 4 : stop]
        self._read = b""
        self.send(round_)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self.round is not None:
            self.round.broken(error or ConnectionError("the server has hung up"))

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()


class _Round:
    """Requests that are to be answered."""

    def __init__(self, requests: Sequence[bytes], done: asyncio.Future[None], connections: int) -> None:
        self.requests: Iterator[tuple[int, bytes]] = iter(list(enumerate(requests)))
        self.answers: list[tuple[bytes, bytes]] = [(b"", b"")] * len(requests)
        self.taken: list[float] = []
        self._busy = connections
        self._done = done

    def left(self) -> None:
        """Take note that a connection has nothing more to do."""
        self._busy -= 1
        if not self._busy and not self._done.done():
            self._done.set_result(None)

    def broken(self, error: Exception) -> None:
        """Take note that there will be no answer."""
        if not self._done.done():
            self._done.set_exception(error)


class Generator:
    """Connections to a server on this machine.

    Parameters
    ----------
    port : int
        Its port.
    path : str
        Where the requests go.
    connections : int
        How many.

    Attributes
    ----------
    refusals : list of (int, bytes)
        The answers of the last run that were none: their statuses, and what they say.
    """

    def __init__(self, port: int, path: str, connections: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n".encode()
        self._port = port
        self._connections: list[_Connection | None] = [None] * connections
        self.refusals: list[tuple[int, bytes]] = []
        self._loop.run_until_complete(self._connected())

    async def _connected(self) -> list[_Connection]:
        """Return the connections; those that the server has closed meanwhile, as idle ones, are opened anew."""
        for _ in range(2):  # rounds of the loop: one to read that they are closed, one to tell them
            await asyncio.sleep(0)
        made: list[_Connection] = []
        for kept in self._connections:
            if kept is None or kept.lost:
                _, kept = await self._loop.create_connection(_Connection, "127.0.0.1", self._port)
            made.append(kept)
        self._connections = [*made]
        return made

    def request(self, body: Any) -> bytes:
        """Return a request as it is sent."""
        text = json.dumps(body).encode()
        return self._head + f"Content-Length: {len(text)}\r\n\r\n".encode() + text

    def run(self, requests: Sequence[bytes]) -> tuple[list[Any], Traffic]:
        """Send requests over all connections, and return the answers, in order, and how long they took."""
        began = perf_counter()
        round_ = self._loop.run_until_complete(self._round(requests))
        seconds = perf_counter() - began
        self.refusals = [(int(status), body) for status, body in round_.answers if status != b"200"]
        answers = [json.loads(body) if status == b"200" else None for status, body in round_.answers]
        return answers, Traffic(tuple(round_.taken), len(self.refusals), seconds)

    async def _round(self, requests: Sequence[bytes]) -> _Round:
        connections = await self._connected()
        done = self._loop.create_future()
        round_ = _Round(requests, done, len(connections))
        for connection in connections:
            connection.send(round_)
        await done
        return round_

    def close(self) -> None:
        """Hang up."""
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        for connection in self._connections:
            if connection is not None:
                connection.close()
        await asyncio.sleep(0)  # the connections learn of it in the next round of the loop
