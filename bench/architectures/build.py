"""Compiles the engines when they are older than their sources: python -m bench.architectures.build."""

import importlib.machinery
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def stale():
    """Whether an engine is missing or older than a source, the product's declarations included."""
    sources = [path for folder in (FOLDER, FOLDER.parent.parent / "tigerfox") for path in folder.rglob("*.pxd")]
    sources += [*FOLDER.glob("*.pyx"), FOLDER / "threads.h"]
    built = [FOLDER / (path.stem + SUFFIX) for path in FOLDER.glob("*.pyx")]
    return not all(path.exists() for path in built) or (
        max(path.stat().st_mtime for path in sources) > min(path.stat().st_mtime for path in built))


def build():
    """Compile in place what is stale."""
    if stale():
        subprocess.run([sys.executable, FOLDER / "setup.py", "--quiet", "build_ext", "--inplace", "--force"], check=True,
                       stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    build()
