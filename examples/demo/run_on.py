"""Run a program, unchanged, on the event loop of asyncio or of fastloop.

python run_on.py asyncio|fastloop PROGRAM
"""

import runpy
import sys

if __name__ == "__main__":
    _, library, program = sys.argv
    if library == "fastloop":
        import fastloop

        fastloop.install()
    runpy.run_path(program, run_name="__main__")
