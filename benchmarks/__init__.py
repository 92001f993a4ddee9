"""The benchmark suite: `python -m benchmarks --help`.

A *subject* is an event loop library (subjects.py); a *workload* is something that it
is timed at (workloads/).  Each measurement is made by a fresh process (child.py) that
the runner starts and, for servers, puts under load (measure.py); the order is
interleaved (runner.py).  results.py holds what came out; report.py and picture.py show
it.  instructions.py counts instructions instead of time.
"""
