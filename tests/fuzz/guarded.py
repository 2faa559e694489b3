"""Memory that ends where a page without access begins: one byte read too far ends the process."""

import ctypes
import mmap

PROCESS = ctypes.CDLL(None, use_errno=True)
FORBID, ALLOW = (getattr(PROCESS, f"__asan_{word}_memory_region", None) for word in ("poison", "unpoison"))


class Guarded:
    """Pages of memory whose last byte lies before a page that nobody may touch.

    Under the address sanitizer the bytes in front of the data may not be touched either.
    """

    def __init__(self, pages=1):
        self.size = pages * mmap.PAGESIZE
        self.map = mmap.mmap(-1, self.size + mmap.PAGESIZE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if PROCESS.mprotect(ctypes.c_void_p(self.address + self.size), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def at_the_end(self, data):
        start = self.size - len(data)
        if ALLOW:
            ALLOW(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size))
        self.map[start:self.size] = data
        if FORBID:
            FORBID(ctypes.c_void_p(self.address), ctypes.c_size_t(start))
        return memoryview(self.map)[start:self.size]


PAGE = Guarded()
