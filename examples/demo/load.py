"""Clients for the demo: many connections, each with one request under way at a time.

    python load.py http|echo PORT CONNECTIONS SECONDS PROCESSES

Prints the requests per second, then the median and the 99th percentile of their
latency in microseconds.  No event loop here: bare sockets and a selector cost less, so
that the server is what is measured.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import sys
import time
from collections import Counter

HOST = "127.0.0.1"
REQUESTS = {
    "http": b"GET /baskets/42 HTTP/1.1\r\nHost: demo\r\nAccept: */*\r\n\r\n",
    "echo": b"x" * 1024,
}


def connect(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def probe(kind: str, port: int) -> tuple[int, bytes]:
    """Ask once; return the length of an answer, and how each has to end."""
    with connect(port) as sock:
        sock.sendall(REQUESTS[kind])
        if kind == "echo":
            return len(REQUESTS[kind]), REQUESTS[kind][-64:]
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"the service answered {head!r}")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"Content-Length"])
        while len(body) < length:
            body += sock.recv(65536)
        return len(head) + 4 + length, body


def drive(
    kind: str, port: int, connections: int, seconds: float
) -> tuple[int, float, Counter[int]]:
    """Return the requests answered, the seconds it took, and the latencies in us."""
    size, ending = probe(kind, port)
    request = REQUESTS[kind]
    clock = time.perf_counter
    latencies: Counter[int] = Counter()
    selector = selectors.DefaultSelector()
    socks = [connect(port) for _ in range(connections)]
    sent_at: dict[socket.socket, float] = {}
    received: dict[socket.socket, bytes] = {}
    done = 0
    start = clock()
    for sock in socks:
        selector.register(sock, selectors.EVENT_READ)
        sent_at[sock] = clock()
        received[sock] = b""
        sock.send(request)
    end = start + seconds
    while clock() < end:
        for key, _ in selector.select(0.1):
            sock = key.fileobj
            data = sock.recv(65536)
            if not data:
                sys.exit("the server closed a connection")
            if len(data) != size:
                data = received[sock] + data
                if len(data) < size:
                    received[sock] = data
                    continue
                received[sock] = b""
            if len(data) != size or not data.endswith(ending):
                sys.exit(f"a wrong answer: {data!r}")
            now = clock()
            latencies[int((now - sent_at[sock]) * 1e6)] += 1
            done += 1
            sent_at[sock] = now
            sock.send(request)
    took = clock() - start
    for sock in socks:
        sock.close()
    return done, took, latencies


def percentile(latencies: Counter[int], share: float) -> int:
    target = latencies.total() * share
    for microseconds in sorted(latencies):
        target -= latencies[microseconds]
        if target < 0:
            return microseconds
    return 0


def main() -> None:
    kind, *numbers, processes = sys.argv[1:]
    port, connections, seconds = int(numbers[0]), int(numbers[1]), float(numbers[2])
    count = int(processes)
    jobs = [(kind, port, connections // count, seconds)] * count
    if count == 1:
        results = [drive(*jobs[0])]
    else:
        with multiprocessing.Pool(count) as pool:
            results = pool.starmap(drive, jobs, chunksize=1)
    rate = sum(done / took for done, took, _ in results)
    latencies = sum((counts for _, _, counts in results), Counter())
    print(f"{rate:.1f} {percentile(latencies, 0.5)} {percentile(latencies, 0.99)}")


if __name__ == "__main__":
    main()
