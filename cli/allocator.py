"""Have the C library keep freed memory.

LMDB allocates each row of 1 MiB that it writes, and frees it with the commit. The GNU C library gives such blocks back
to the system, and to get new ones, page by page, cost more than copying and hashing the row (0.8 ms instead of
0.2 ms where it was measured). This is for a process of our own; a library doesn't change the allocator of its user.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD_BYTES: Final = 32 << 20  # the most that the GNU C library takes
_TRIM_THRESHOLD_BYTES: Final = 128 << 20


def keep_freed_memory() -> bool:
    """Have up to 128 MiB of freed memory kept for what is allocated next; returns whether the C library can."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    set_mmap = mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    return bool(set_mmap and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES))
