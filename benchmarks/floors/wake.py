"""Waking: coroutines whose futures a thread settles, with nothing encoded and nothing written."""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter


def wake_us(coroutines: int, each: int) -> list[float]:
    """Microseconds of each wait, where so many coroutines wait so often for a thread that settles all that wait.

    What a group commit costs in an event loop before it encodes, writes or syncs anything.
    """
    return asyncio.run(_wait_all(coroutines, each))


async def _wait_all(coroutines: int, each: int) -> list[float]:
    loop = asyncio.get_running_loop()
    waker = _Waker(loop)
    taken: list[float] = []

    async def wait_each() -> None:
        for _ in range(each):
            began = perf_counter()
            future: asyncio.Future[None] = loop.create_future()
            waker.add(future)
            await future
            taken.append((perf_counter() - began) * 1e6)

    await asyncio.gather(*(wait_each() for _ in range(coroutines)))
    waker.close()
    return taken


class _Waker:
    """A thread that settles, in one call into the loop, all futures that have come while it was at the last ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._work = threading.Condition()
        self._waiting: list[asyncio.Future[None]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, future: asyncio.Future[None]) -> None:
        with self._work:
            self._waiting.append(future)
            self._work.notify()

    def close(self) -> None:
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._waiting and not self._closing:
                    self._work.wait()
                if not self._waiting:
                    return
                settled, self._waiting = self._waiting, []
            self._loop.call_soon_threadsafe(_settle, settled)


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        future.set_result(None)
