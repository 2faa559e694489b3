"""Builds the engines next to their sources: python bench/architectures/setup.py build_ext --inplace (the product is built first)."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent.parent.parent
os.chdir(ROOT)
FOLDER = "bench/architectures"
MODULES = [Extension(f"bench.architectures.{path.stem}", [f"{FOLDER}/{path.name}"], include_dirs=[FOLDER],
                     extra_compile_args=["-std=gnu11", "-O3", "-g1", "-Wall", "-Wno-unused-function", "-fno-strict-aliasing", "-pthread"],
                     extra_link_args=["-pthread"])
           for path in sorted(Path(FOLDER).glob("*.pyx"))]

setup(
    name="tigerfox-architectures",
    packages=[],
    py_modules=[],
    options={"build": {"build_base": "build/architectures"}},
    ext_modules=cythonize(
        MODULES, build_dir="build/architectures",
        compiler_directives={"language_level": "3", "boundscheck": False, "wraparound": False, "cdivision": True,
                             "initializedcheck": False}, show_all_warnings=False),
)
