"""Memory that ends where a page without access begins: one byte read too far ends the process."""

import ctypes
import mmap


class Guarded:
    """A page of memory whose last byte lies before a page that nobody may touch."""

    def __init__(self):
        self.map = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address + mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def at_the_end(self, data):
        start = mmap.PAGESIZE - len(data)
        self.map[start:mmap.PAGESIZE] = data
        return memoryview(self.map)[start:mmap.PAGESIZE]


PAGE = Guarded()
