"""aiohttp: 32 tasks on one session."""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
from bench.driving import WORKERS, item, report


async def main(what: str, url: str, size: int, seconds: float) -> None:
    """Run the command line, as ``drive`` does."""
    moments: list[float] = []
    numbers = count(1)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WORKERS)) as session:

        async def ask() -> None:
            where, fields = (url, None) if what == 'hello' else item(url, next(numbers))
            async with session.get(where, headers=fields) as response:
                assert len(await response.read()) == size

        async def work() -> None:
            while time.perf_counter() < stop:
                await ask()
                moments.append(time.perf_counter())

        began = time.perf_counter()
        if what == 'download':
            async with session.get(url) as response:
                found = 0
                async for chunk in response.content.iter_chunked(65536):
                    found += len(chunk)
                assert found == size
        else:
            await ask()
            began = time.perf_counter()
            stop = began + seconds
            await asyncio.gather(*(work() for _ in range(WORKERS)))
        report(moments, [], began)


if __name__ == '__main__':
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0))
