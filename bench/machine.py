"""Where figures come from."""

import os
import platform
import subprocess
import time
from pathlib import Path


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def memory_folder():
    """A folder whose files lie in memory; None, which lets tempfile choose, where there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def machine():
    """Processor, kernel, commit and load, to stand beside figures."""
    models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {"cpu": models[0] if models else platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release(),
            "python": platform.python_version(), "load": round(os.getloadavg()[0], 2), "commit": commit or "none",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
