"""Build of the compiled stages; everything else about the package stands in pyproject.toml.

TF_DEBUG=1 compiles assertions in (TF_ASSERT); TF_SANITIZE=1 builds with address and undefined-behaviour sanitizers;
TF_SANITIZE=fuzz, with clang, adds the coverage that libFuzzer needs (scripts/fuzz.sh).
"""

import os
import subprocess
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("TF_DEBUG") == "1"
SANITIZE = os.environ.get("TF_SANITIZE") in ("1", "fuzz")
FUZZ = os.environ.get("TF_SANITIZE") == "fuzz"

compile_args = ["-std=gnu11", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing"]
compile_args += ["-O1", "-g", "-DTF_DEBUG=1"] if DEBUG or SANITIZE else ["-O3", "-g1"]
link_args = []
LIBRARIES = {"httpinflate": ["z"], "scan": ["hs"], "inspect": ["pcre2-8"]}
PACKAGES = {"scan": "libhs", "inspect": "libpcre2-8"}    # names for pkg-config
FALLBACK = {"scan": ["/usr/include/hs"]}                 # where the headers stand if pkg-config cannot say
if SANITIZE:
    compile_args += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]
if FUZZ:
    compile_args += ["-fsanitize=fuzzer-no-link", "-fno-sanitize-recover=undefined"]


def include_folders(module):
    """Folders of the headers that a module needs beyond the usual ones."""
    if module not in PACKAGES:
        return []
    try:
        flags = subprocess.run(["pkg-config", "--cflags-only-I", PACKAGES[module]], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return FALLBACK.get(module, [])
    return [flag[2:] for flag in flags.stdout.split()]


def extensions():
    """One extension per .pyx, named after its place."""
    sources = sorted(glob("tigerfox/*.pyx") + glob("tigerfox/dataplane/**/*.pyx", recursive=True))
    return [
        Extension(path[:-4].replace("/", "."), [path], libraries=LIBRARIES.get(module, []),
                  include_dirs=include_folders(module), extra_compile_args=compile_args, extra_link_args=link_args)
        for path in sources for module in [os.path.basename(path)[:-4]]
    ]


setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions(),
        nthreads=os.cpu_count(),
        compiler_directives={
            "language_level": "3",
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        },
        show_all_warnings=False,
    )
)
