"""Build of the compiled stages; everything else about the package stands in pyproject.toml.

TF_DEBUG=1 compiles assertions in (TF_ASSERT); TF_SANITIZE=1 builds with address and undefined-behaviour sanitizers.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("TF_DEBUG") == "1"
SANITIZE = os.environ.get("TF_SANITIZE") == "1"

compile_args = ["-std=gnu11", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing"]
compile_args += ["-O1", "-g", "-DTF_DEBUG=1"] if DEBUG or SANITIZE else ["-O3", "-g1"]
link_args = []
LIBRARIES = {"httpinflate": ["z"]}
if SANITIZE:
    compile_args += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]


def extensions():
    """One extension per .pyx, named after its place."""
    sources = sorted(glob("tigerfox/*.pyx") + glob("tigerfox/dataplane/**/*.pyx", recursive=True))
    return [
        Extension(path[:-4].replace("/", "."), [path], libraries=LIBRARIES.get(os.path.basename(path)[:-4], []),
                  extra_compile_args=compile_args, extra_link_args=link_args)
        for path in sources
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
