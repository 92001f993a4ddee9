"""Where the suite lies: in a checkout, or in an installed fastloop (`_suite`).

Either way it is a package of its own, and not a part of fastloop: importing that would
change asyncio for those that it is compared with.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent  # from here, `benchmarks` can be imported
CERTIFICATE = ROOT / "tests" / "io" / "certs" / "localhost.pem"


def build_folder() -> Path:
    """Where programs are compiled to: one that can be written."""
    if (ROOT / "setup.py").exists():
        return ROOT / "build" / "benchmarks"
    sources = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.[ch]")))
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"benchmarks-{hashlib.sha256(sources).hexdigest()[:12]}"
    return Path(cache) / "fastloop" / name


BUILD = build_folder()


def environment() -> dict[str, str]:
    """For processes of the suite: they find it wherever they are."""
    path = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
