"""A network between a client and a server on this machine, in a process of its own.

`relay` hands connections on, late if asked to, and counts what goes through.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Relay:
    """Between a client and a server.

    Attributes:
        uri: what the client asks.
        sent: bytes towards the server, once the relay has ended.
        received: bytes that came back, once it has ended.
    """

    uri: str
    sent: int = 0
    received: int = 0


@contextmanager
def relay(uri: str, milliseconds: float = 0) -> Iterator[Relay]:
    """The server at `uri`, as if its answers took so long on their way, both ways together."""
    command = [sys.executable, "-m", "benchmarks.relay", uri.rpartition(":")[2], str(milliseconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]  # noqa: S603
        made = Relay(f"http://127.0.0.1:{int(process.stdout.readline())}")
        try:
            yield made
        finally:
            counts, _ = process.communicate()  # it ends with its input
        made.sent, made.received = map(int, counts.split())


def main(argv: Sequence[str]) -> int:
    """Print the port that is listened at; when the input ends, bytes of both ways."""
    port, milliseconds = argv
    print(*asyncio.run(_serve(int(port), float(milliseconds) / 2e3)))
    return 0


async def _serve(port: int, delay: float) -> list[int]:
    counts = [0, 0]

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(asyncio.CancelledError):  # a connection that is open when the relay ends
            await asyncio.gather(
                _carry(reader, far_writer, delay, counts, 0),
                _carry(far_reader, writer, delay, counts, 1),
            )
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return counts


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    counts: list[int],
    way: int,
) -> None:
    """Everything from one end to the other, each part `delay` seconds after it came."""
    loop = asyncio.get_running_loop()
    late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        with suppress(ConnectionError):
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                counts[way] += len(data)

    delivering = asyncio.create_task(deliver())
    data = b"begin"
    while data:
        try:
            data = await reader.read(2**18)
        except ConnectionError:
            data = b""
        late.put_nowait((loop.time() + delay, data))
    await delivering


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
