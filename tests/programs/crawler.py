"""A polite crawler and the site that it crawls.

The site is served by asyncio streams in the same process.  Some of its pages hang,
some always fail, some fail twice and then recover.  The crawler remembers what it
has seen, limits how many pages it fetches at a time, gives up on slow ones, and
tries again with a growing delay.
"""

import asyncio
import re
from collections import Counter

PAGES = 40
ATTEMPTS = 3
AT_A_TIME = 5
PATIENCE = 0.5


class Site:
    """Page n links to pages 2n + 1 and 2n + 2, to the first page and to a bad one."""

    hanging = frozenset({"/page/11", "/page/13"})
    broken = frozenset({"/page/9", "/page/30"})
    flaky = frozenset({"/page/4", "/page/7", "/page/15"})

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split()[1].decode()
            self.hits[path] += 1
            if path in self.hanging:
                await reader.read()  # until the visitor gives up
            else:
                status, body = self.page(path)
                writer.write(f"HTTP/1.0 {status}\r\n\r\n{body}".encode())
                await writer.drain()
        finally:
            writer.close()

    def is_sulking(self, path: str) -> bool:
        return path in self.flaky and self.hits[path] < ATTEMPTS

    def page(self, path: str) -> tuple[int, str]:
        number = int(path.rpartition("/")[2])
        if number >= PAGES:
            return 404, "not here"
        if path in self.broken or self.is_sulking(path):
            return 500, "try later"
        links = (2 * number + 1, 2 * number + 2, 0, 100 + number % 3)
        return 200, "".join(f'<a href="/page/{n}">{n}</a>\n' for n in links)


class Crawler:
    def __init__(self, host: str, port: int) -> None:
        self.address = host, port
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.slots = asyncio.Semaphore(AT_A_TIME)
        self.seen: set[str] = set()
        self.outcome: dict[str, str] = {}
        self.retries = 0
        self.fetching = self.peak = 0

    def add(self, path: str) -> None:
        if path not in self.seen:
            self.seen.add(path)
            self.queue.put_nowait(path)

    async def fetch(self, path: str) -> tuple[int, str]:
        self.fetching += 1
        self.peak = max(self.peak, self.fetching)
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            self.fetching -= 1
            writer.close()
            await writer.wait_closed()

    async def visit(self, path: str) -> None:
        delay = 0.01
        for attempt in range(ATTEMPTS):
            if attempt:
                self.retries += 1
                await asyncio.sleep(delay)
                delay *= 2
            try:
                async with self.slots, asyncio.timeout(PATIENCE):
                    status, body = await self.fetch(path)
            except TimeoutError:
                self.outcome[path] = "timeout"
                continue
            self.outcome[path] = str(status)
            if status < 500:
                for link in re.findall('href="(.*?)"', body):
                    self.add(link)
                return

    async def worker(self) -> None:
        while True:
            path = await self.queue.get()
            try:
                await self.visit(path)
            finally:
                self.queue.task_done()

    async def crawl(self, start: str) -> None:
        self.add(start)
        workers = [asyncio.create_task(self.worker()) for _ in range(AT_A_TIME * 2)]
        await self.queue.join()
        for worker in workers:
            worker.cancel()
        ends = await asyncio.gather(*workers, return_exceptions=True)
        cancelled = [end for end in ends if isinstance(end, asyncio.CancelledError)]
        print("workers cancelled:", len(cancelled))


async def main() -> None:
    site = Site()
    async with asyncio.TaskGroup() as handlers:
        server = await asyncio.start_server(
            lambda *streams: handlers.create_task(site.serve(*streams)), "127.0.0.1", 0
        )
        async with server:
            crawler = Crawler(*server.sockets[0].getsockname())
            await crawler.crawl("/page/0")

    for outcome, count in sorted(Counter(crawler.outcome.values()).items()):
        print(f"{outcome}: {count}")
    for path, outcome in sorted(crawler.outcome.items()):
        if outcome not in ("200", "404") or site.hits[path] > 1:
            print(f"  {path}: {outcome} after {site.hits[path]} requests")
    print("pages:", len(crawler.seen), "requests:", site.hits.total())
    print("retries:", crawler.retries)
    print("polite:", crawler.peak <= AT_A_TIME)


if __name__ == "__main__":
    asyncio.run(main())
