"""What the measurements were made on."""

from __future__ import annotations

import os
import platform
import ssl
import subprocess
import sys
from pathlib import Path

from . import native


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def compiler() -> str:
    try:
        done = subprocess.run(
            [*native.compiler(), "--version"], capture_output=True, text=True
        )
        return done.stdout.splitlines()[0]
    except (OSError, IndexError):
        return "none"


def describe() -> dict[str, str]:
    import fastloop

    load = os.getloadavg()[0]
    return {
        "processor": f"{os.cpu_count()} x {processor()}",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "build": " ".join(platform.python_build()),
        "python compiler": platform.python_compiler(),
        "compiler": compiler(),
        "libuv": fastloop.libuv_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "load at the start": f"{load:.1f}",
        "gil": "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off",
    }
