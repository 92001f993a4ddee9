"""CPython's own tests of asyncio, run on fastloop.

    python -m tests.conformance                     every module
    python -m tests.conformance test_tasks -k eager -v
    python -m tests.conformance --list -v           every module, every test, the list
    python -m tests.conformance --patch test_tasks  with fastloop's primitives under
                                                    asyncio's names
    python -m tests.conformance --no-debug          without asyncio's debug mode, in
                                                    which async test cases run

The tests come with the running interpreter (`test.test_asyncio`) and stay as they
are.  Each module runs in a process of its own, in which fastloop's loops are the
default (`native.py`) and the classes that name an implementation of asyncio get
variants that name fastloop's (`adapters`).  A test that cannot hold for fastloop is
listed in `reasons.toml`, with the reason; it runs all the same, and the run fails if
it passes or if an entry of the list fits no test.

The way of a run:

    __main__   the command line
    modules    which modules there are, and who adapts them
    supervise  one module: its process, its clock, a new process after a crash
    worker     inside that process: adapt, run, write down what happened
    verdict    what happened, held against the list of reasons
    report     the table and the failures
"""
