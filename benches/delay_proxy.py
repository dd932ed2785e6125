#!/usr/bin/env python3
"""A TCP proxy on loopback that adds latency, to count a command's serial round trips.

    delay_proxy.py TARGET_PORT ONE_WAY_SECONDS        # prints the port that it listens on

Every byte is held back for ONE_WAY_SECONDS in each direction, and a new connection for one whole
round trip (its SYN and SYN-ACK) before its first byte. Bandwidth is not limited.
"""

import asyncio
import sys


async def carry(reader, writer, delay):
    """Copies reader to writer, each chunk `delay` seconds later; end of input stays in order."""
    loop = asyncio.get_running_loop()
    held = asyncio.Queue()

    async def deliver():
        while True:
            due, chunk = await held.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if chunk:
                writer.write(chunk)
                await writer.drain()
            else:
                if writer.can_write_eof():
                    writer.write_eof()
                return

    delivery = asyncio.create_task(deliver())
    try:
        while chunk := await reader.read(65536):
            held.put_nowait((loop.time() + delay, chunk))
    except ConnectionError:
        pass
    held.put_nowait((loop.time() + delay, b""))
    try:
        await delivery
    except (ConnectionError, OSError):
        pass


async def serve(target, delay):
    async def accept(reader, writer):
        await asyncio.sleep(2 * delay)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            carry(reader, upstream[1], delay), carry(upstream[0], writer, delay)
        )
        writer.close()
        upstream[1].close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
