"""A small HTTP CONNECT proxy, a process of its own: `connect_proxy.py [--login USER:PASSWORD] [--refuse] [--idle S]`.

Writes its port; then one line for each CONNECT: the status and the place. With `--idle` a tunnel without traffic is cut.
"""

from __future__ import annotations

import argparse
import asyncio
import base64


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--login")
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--idle", type=float)
    given = parser.parse_args()
    wanted = given.login and "Basic " + base64.b64encode(given.login.encode()).decode()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[float]) -> None:
        while data := await reader.read(65536):
            heard[0] = asyncio.get_running_loop().time()
            writer.write(data)
            await writer.drain()

    async def tunnel(pairs: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        loop = asyncio.get_running_loop()
        heard = [loop.time()]
        ways = [asyncio.create_task(carry(reader, writer, heard)) for reader, writer in pairs]
        while not any(way.done() for way in ways):
            await asyncio.wait(ways, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
            if given.idle and loop.time() - heard[0] > given.idle:
                print("cut", flush=True)
                break
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, place, _ = head.split("\r\n")[0].split()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            status = 200
            if method != "CONNECT" or given.refuse:
                status = 403
            elif wanted and fields.get("Proxy-Authorization") != wanted:
                status = 407
            print(status, place, flush=True)
            writer.write(f"HTTP/1.1 {status} x\r\n{'' if status == 200 else 'Content-Length: 0'}\r\n\r\n".replace(
                "\r\n\r\n\r\n", "\r\n\r\n").encode())  # fmt: skip
            await writer.drain()
            if status == 200:
                host, _, port = place.rpartition(":")
                there = await asyncio.open_connection(host, int(port))
                try:
                    await tunnel([(reader, there[1]), (there[0], writer)])
                finally:
                    there[1].close()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
