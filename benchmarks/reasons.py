"""Why fastloop is not first in a row, or not far ahead: what profiles have shown.

Shown on the page beside the rows that it is true of when they were measured.  Counts of
instructions are callgrind's, shares of time perf's.
"""

from __future__ import annotations

STOCK = "asyncio's Python code is what runs"

REASONS = {
    "call_soon_other_thread": (
        "A thread has the GIL for 5 ms, in which it schedules 20,000 callbacks or more "
        "before the loop runs the first: more than a processor's cache holds."
    ),
    "short_sleep": (
        "uvloop does not sleep: what it is asked to sleep 0.1 ms for takes 2 µs.  "
        "rsloop waits without sleeping: its processor is busy for 98% of the time, "
        "fastloop's for 55%.  Who sleeps as long as asked cannot pass 1M/s here."
    ),
    "semaphore": f"Without patch(), {STOCK}; nothing of the loop's does.",
    "gather": (
        f"Without patch(), {STOCK}: of the 11,345 instructions for each task, 1,183 "
        "are fastloop's."
    ),
    "gather_yielding": f"Without patch(), {STOCK}, as in gather() alone.",
    "tls_100k_50": (
        "Nearly all of the time is OpenSSL's, as in the floor.  The rounds of a whole "
        "run differ much: in four by themselves fastloop made 11.7k/s, "
        "asyncio+aiofastnet 11.0k, the floor 12.2k."
    ),
    "tls_streams_100k_50": "Nearly all of the time is OpenSSL's, as in the floor.",
    "bulk_read": (
        "The one client is the limit: fastloop's process waits for it a third of the "
        "time or more."
    ),
    "bulk_send": (
        "All are at the floor or above it: how much the one client reads at once, "
        "which varies, decides."
    ),
    "bulk_write": (
        "Every send wakes the client if that is done with the last one.  zuvloop sends "
        "256 KiB with one call, fastloop 128: it asks the kernel as soon as the "
        "high-water mark is passed, as pause_writing() has to come within write()."
    ),
    "buffered_1k_50": (
        "The protocol's two methods, and the copy that it makes of its buffer, are "
        "Python: fastloop's own part is 1,043 instructions for a message, 990 where a "
        "Protocol echoes."
    ),
    "streams_100k_50": (
        "Without patch() the reader is asyncio's: it copies all that comes twice."
    ),
    "aiohttp_server": "Nearly all of the time is the library's, in Python.",
    "uvicorn": "Nearly all of the time is the library's, in Python.",
    "uvicorn_10k": "Nearly all of the time is the library's, in Python.",
    "getaddrinfo": (
        "Of 5,303 instructions fastloop's are 546; most are those of the coroutine, "
        "which asyncio documents getaddrinfo() to be."
    ),
    "turnover_50": (
        "The clients are the limit: most of the time is the kernel's, which opens and "
        "closes connections on their core."
    ),
    "asyncpg_select": (
        "PostgreSQL's processes on their one core are the limit.  A query takes 12 µs "
        "of the client's processor, 13 µs with zuvloop, 16 µs with uvloop."
    ),
    "websockets": "Nearly all of the time is the library's, in Python.",
    "subprocess_spawn": "fork() and exec() take the time: Popen starts the process.",
    "idle_tcp": (
        "The transport with libuv's handle takes 640 bytes; the protocol, which every "
        "loop needs, 80."
    ),
}
