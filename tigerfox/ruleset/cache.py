"""Compiled rule sets kept on disk, so that the next start need not read and compile the same rules again.

What it owns
    A folder of its own (mode 0700), one file for each rule set: MAGIC, a digest of what follows, the length of a description
    in JSON, the description, the image.

Invariants
    The name of a file is a hash of everything that the result depends on: contents of the rule files and address lists,
    variables, settings, the code that compiles, the layout of the image, the libraries and the processor. Files are
    written beside their place and renamed; a half-written one is never seen.

Who may write what
    Whoever the folder belongs to. A folder or file that belongs to somebody else, or that others may write to, is left
    alone: an image decides about traffic.

What happens when full or broken
    The files that were not used for longest go when the folder holds more than ``most`` bytes. A file that is damaged is
    removed, a folder that cannot be used is no error: rules are compiled as without it.
"""

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

MAGIC = b"TFCACHE1"
MOST_BYTES = 256 << 20
WORTH_KEEPING = 0.25             # seconds that a compilation must have taken
_HEAD = len(MAGIC) + 32 + 8


def folder_of(setting):
    """Return the folder that the setting ``rules.cache`` means ("auto", "none", or a folder), None for none."""
    if setting == "none":
        return None
    if setting != "auto":
        return Path(setting)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "tigerfox"
    return Path("/var/cache/tigerfox") if os.geteuid() == 0 else Path.home() / ".cache" / "tigerfox"


def key_of(files, variables, settings):
    """Return the name under which the result of ``files`` is kept, or None when one of them cannot be read.

    ``files`` are paths of rule files, ``variables`` maps names to values ("@FILE": its content counts), ``settings`` is
    whatever else the result depends on, as text.
    """
    digest = hashlib.blake2b(digest_size=20)

    def add(*texts):
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogateescape")
            digest.update(len(data).to_bytes(8, "little") + data)

    try:
        add(settings, *_code())
        for name, value in sorted(variables.items()):
            add(name, value, Path(value[1:]).read_bytes() if value.startswith("@") else b"")
        for path in files:
            add(path, Path(path).read_bytes())
    except OSError:
        return None
    return digest.hexdigest()


def _code():
    """What tells one build of the compiler from another: names, sizes and times of its files."""
    here = Path(__file__).parent
    for folder, pattern in ((here, "*.py"), (here.parent / "dataplane", "*.so")):
        for path in sorted(folder.glob(pattern)):
            found = path.stat()
            yield f"{path.name} {found.st_size} {found.st_mtime_ns}"


class Cache:
    """The files of one folder; ``most`` bytes in all."""

    def __init__(self, folder, most=MOST_BYTES):
        self._folder = Path(folder)
        self._most = most

    def get(self, key):
        """Return (description, image) kept under ``key``, or None."""
        path = self._folder / f"{key}.rules"
        try:
            if not _is_ours(os.lstat(self._folder), stat.S_ISDIR):
                return None
            data = _read(path)
            found = _parts(data)
            if found is None:
                path.unlink()
            else:
                os.utime(path)
            return found
        except OSError:
            return None

    def put(self, key, description, image):
        """Keep an image and its description (what JSON can say) under ``key``; return whether that was possible."""
        text = json.dumps(description).encode()
        body = len(text).to_bytes(8, "little") + text + image
        data = MAGIC + hashlib.blake2b(body, digest_size=32).digest() + body
        if len(data) > self._most:
            return False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(os.lstat(self._folder), stat.S_ISDIR):
                return False
            self._write(self._folder / f"{key}.rules", data)
            self._trim()
        except OSError:
            return False
        return True

    def _write(self, path, data):
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self._folder)       # mode 0600
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def _trim(self):
        """Remove the files that were not used for longest, and what died while it was written."""
        found = []
        for path in self._folder.iterdir():
            if path.suffix == ".rules" or path.name.startswith(".new-"):
                about = path.lstat()
                found.append((about.st_mtime_ns, about.st_size, path))
        size = sum(one for _, one, _ in found)
        for _, one, path in sorted(found)[:-1]:
            if size <= self._most:
                break
            path.unlink(missing_ok=True)
            size -= one


def _is_ours(about, kind):
    return kind(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022


def _read(path):
    """The bytes of a file of ours; raises OSError for another's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if not _is_ours(os.fstat(descriptor), stat.S_ISREG):
            raise PermissionError(f"{path} belongs to somebody else")
        return stream.read()


def _parts(data):
    """(description, image), or None where the file is damaged."""
    body = memoryview(data)[_HEAD - 8:]
    if len(data) < _HEAD or not data.startswith(MAGIC):
        return None
    if hashlib.blake2b(body, digest_size=32).digest() != data[len(MAGIC):_HEAD - 8]:
        return None
    length = int.from_bytes(body[:8], "little")
    return json.loads(bytes(body[8:8 + length])), bytes(body[8 + length:])
