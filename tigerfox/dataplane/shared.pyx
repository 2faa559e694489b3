"""Mapped files with a checked header: the memory that workers, supervisor and command line share."""

import mmap
import os
import time

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from tigerfox.errors import SharedMemoryError, from_errno

cdef enum:
    HEADER_SIZE = sizeof(SharedHeader)

NO_RESERVE = 0x4000              # MAP_NORESERVE, linux/mman.h
SHARED_MAGIC = int.from_bytes(b"TIGERFOX", "little")


def _cannot(doing, error, mend):
    """The error of ours for an OSError: PrivilegeError where it is about rights, else SharedMemoryError."""
    if isinstance(error, PermissionError):
        return from_errno(error.errno, doing, "Use sudo, or a directory of your own.")
    return SharedMemoryError(f"{doing}: {os.strerror(error.errno)}. {mend}")


def _new_file(path, size):
    """Return the descriptor of a new file whose memory is reserved, so that no write to the mapping can fail later."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot(f"create {path}", error, "Stop the instance that uses it, or remove it.") from error
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        os.close(descriptor)
        os.unlink(path)
        raise _cannot(f"reserve {size} bytes for {path}", error, "Enlarge its file system, or make the table smaller.") from error
    return descriptor


cdef class Region:
    """``Region.create(path, kind, layout, size)`` makes a file (``path=None``: anonymous memory), ``Region.open`` maps one.

    ``size`` is in bytes and includes the header of 128 bytes; without ``reserve`` anonymous memory comes into being as it is
    touched. Raises SharedMemoryError when an existing file has
    another magic, kind, layout or size than asked for, or when there is no room for it; PrivilegeError when it belongs to
    somebody else. The mapping is shared: children of a fork see the same memory.
    """

    @staticmethod
    def create(path, int kind, int layout, size_t size, bint reserve=True):
        cdef Region region = Region.__new__(Region)
        descriptor = -1
        try:
            if path is not None:
                descriptor = _new_file(path, size)
            flags = mmap.MAP_SHARED | (0 if path is not None else mmap.MAP_ANONYMOUS | (0 if reserve else NO_RESERVE))
            region._bind(mmap.mmap(descriptor, size, flags=flags), path, True)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        cdef SharedHeader *header = region.header()
        cdef bytes keys = os.urandom(sizeof(header.keys))
        memcpy(header.keys, <const char *>keys, sizeof(header.keys))
        header.kind = kind
        header.layout = layout
        header.size = size
        header.created_ns = time.time_ns()
        header.magic = SHARED_MAGIC
        return region

    @staticmethod
    def open(path, int kind, int layout, bint writable=False):
        cdef Region region = Region.__new__(Region)
        try:
            descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise _cannot(f"open {path}", error, "Is the instance running? See `tigerfox status`.") from error
        try:
            length = os.fstat(descriptor).st_size
            if length < HEADER_SIZE:
                raise SharedMemoryError(f"{path}: {length} bytes are too few for a header. Stop the instance and start it again.")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            region._bind(mmap.mmap(descriptor, length, access=access), path, writable)
        finally:
            os.close(descriptor)
        region._check(kind, layout)
        return region

    def _bind(self, mapping, path, writable):
        cdef Py_buffer view
        self._map = mapping
        self.path = path
        self.writable = writable
        PyObject_GetBuffer(mapping, &view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        self.base = <uint8_t *>view.buf
        self.size = view.len
        PyBuffer_Release(&view)      # the mapping stays where it is while _map lives

    def _check(self, int kind, int layout):
        cdef SharedHeader *header = self.header()
        if header.magic != <uint64_t>SHARED_MAGIC or header.kind != <uint32_t>kind:
            raise SharedMemoryError(f"{self.path}: not a TigerFox file of kind {kind}. Remove it and start the instance again.")
        if header.layout != <uint32_t>layout:
            raise SharedMemoryError(
                f"{self.path}: layout {header.layout}, this program has {layout}. "
                f"Stop the instance with the program that started it.")
        if header.size != self.size:
            raise SharedMemoryError(f"{self.path}: {self.size} bytes, its header says {header.size}. Remove it and start again.")

    cdef SharedHeader *header(self) noexcept:
        return <SharedHeader *>self.base

    @property
    def generation(self):
        """How often the content was replaced as a whole."""
        return self.header().generation
