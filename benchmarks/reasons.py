"""Why fastloop is not first in a row, or not far ahead: what profiles have shown.

Shown on the page beside the rows that it is true of when they were measured.  Counts of
instructions are callgrind's, shares of time perf's.
"""

from __future__ import annotations

STOCK = "asyncio's Python code is what runs"


def shares(kernel: int, interpreter: int, ours: int) -> str:
    """Of the processor time of fastloop's server, in percent: perf's, Python 3.13."""
    return (
        f"{kernel}% of the server's time is the kernel's, {interpreter}% the "
        f"interpreter's, {ours}% fastloop's."
    )


# What has been tried to bring echoes of 1 KiB nearer to the floor.
TRIED = (
    "Tried, without a gain of a percent: io_uring (a server in C: 1.01x of epoll), "
    "edge-triggered polling, link-time optimisation, -O2, hot and cold attributes, "
    "receiving into the bytes object itself, a context that stays entered from one "
    "callback to the next (call_soon() 1.05x, echo 1.00x)."
)
BULK = (
    f"{shares(84, 14, 1)}  Sends of 64 KiB are the fastest: with 128 it is 0.83x, with "
    "32 0.93x, with 16 0.55x."
)

REASONS = {
    "executor": (
        "Threads are Python's, and their turns the kernel's: of the process's time 2% "
        "is fastloop's."
    ),
    "call_soon_other_thread": (
        "A thread has the GIL for 5 ms, in which it schedules 20,000 callbacks or more "
        "before the loop runs the first: more than a processor's cache holds."
    ),
    "short_sleep": (
        "The sleeps themselves are the time, 0.1 ms each.  rsloop waits without "
        "sleeping, its processor is busy for 98% of the time; fastloop looks for the "
        "last part of a short sleep only."
    ),
    "semaphore": f"Without patch(), {STOCK}; nothing of the loop's does.",
    "gather": (
        f"Without patch(), {STOCK}: of the 9,797 instructions for each task, 1,183 "
        "are fastloop's."
    ),
    "gather_yielding": f"Without patch(), {STOCK}, as in gather() alone.",
    "tls_100k_50": "Nearly all of the time is OpenSSL's, as in the floor.",
    "tls_streams_100k_50": "Nearly all of the time is OpenSSL's, as in the floor.",
    "tcp_1k_50": f"{shares(89, 2, 3)}  {TRIED}",
    "tcp_1k_1000": shares(91, 2, 3),
    "tcp_100k_50": shares(96, 2, 1),
    "sock_1k_50": shares(79, 10, 7),
    "unix_1k_50": f"{shares(85, 4, 3)}  {TRIED}",
    "udp_1k_50": shares(87, 5, 4),
    "streams_1k_50": shares(62, 26, 4),
    "connections_10": shares(90, 3, 2),
    "connections_100": shares(92, 2, 3),
    "connections_1000": shares(91, 2, 3),
    "tls_1k_50": (
        "60% of the server's time is the kernel's, 25% OpenSSL's, 5% fastloop's."
    ),
    "connections_10000": (
        f"{shares(90, 3, 2)}  A turn is as long as 10,000 connections take to open, so "
        "that there are four.  On 3.14 those of fastloop lie between 101k/s and "
        "119k/s, those of rloop between 99k/s and 116k/s; in twelve turns by "
        "themselves fastloop was 1.00x of rloop and 0.98 of the floor."
    ),
    "bulk_read": (
        "The one client is the limit: the floor's server runs for 40% of the time."
    ),
    "bulk_send": BULK,
    "bulk_write": BULK,
    "buffered_1k_50": (
        f"{shares(81, 11, 3)}  The protocol's two methods, and the "
        "copy that it makes of its buffer, are Python: fastloop's own part is 1,043 "
        "instructions for a message, 990 where a Protocol echoes."
    ),
    "readline_64_50": "Without patch() the reader is asyncio's, in Python.",
    "streams_100k_50": (
        "Without patch() the reader is asyncio's: it copies all that comes twice."
    ),
    "aiohttp_server": shares(21, 65, 2),
    "uvicorn": shares(35, 52, 3),
    "uvicorn_10k": shares(39, 51, 2),
    "getaddrinfo": (
        "Of 5,303 instructions fastloop's are 546; most are those of the coroutine, "
        "which asyncio documents getaddrinfo() to be."
    ),
    "turnover_50": shares(78, 7, 3),
    "asyncpg_select": (
        "PostgreSQL's processes on their one core are the limit.  A query takes 12 µs "
        "of the client's processor, 13 µs with zuvloop, 16 µs with uvloop.  With one "
        "connection, where PostgreSQL is not the limit, fastloop is 1.5x and more."
    ),
    "websockets": "Nearly all of the time is the library's, in Python.",
    "subprocess_spawn": "fork() and exec() take the time: Popen starts the process.",
    "idle_tcp": (
        "The transport with libuv's handle takes 640 bytes; the protocol, which every "
        "loop needs, 80."
    ),
}
