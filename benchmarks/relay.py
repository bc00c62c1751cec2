"""A network between a client and a server on this machine: each packet arrives late.

`python -m benchmarks.relay PORT MILLISECONDS` listens at a port of its own, prints it, and passes
on what it gets to PORT, half of the time later each way.
"""

import asyncio
import sys
from collections.abc import Sequence


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    delivering = asyncio.create_task(deliver())
    data = b"begin"
    while data:
        try:
            data = await reader.read(2**16)
        except ConnectionError:
            data = b""
        late.put_nowait((loop.time() + delay, data))
    await delivering


async def _serve(port: int, delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carry(reader, far_writer, delay), _carry(far_reader, writer, delay))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(argv: Sequence[str]) -> int:
    """Pass on until the process is ended."""
    port, milliseconds = argv
    asyncio.run(_serve(int(port), float(milliseconds) / 2e3))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
