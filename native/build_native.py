"""Builds `prismq._native`: at once a cffi extension module and a loadable extension of SQLite.

cffi runs this file by path, so it imports nothing of the package. On Windows it wants MSVC (Visual Studio Build Tools)
or clang-cl; no SQLite headers or libraries are needed anywhere.
"""

import os
import sys
from pathlib import Path

from cffi import FFI

NATIVE = Path("native")

# Where the build must succeed a warning is an error; elsewhere a compiler's new warning is no reason to go without.
strict = os.environ.get("PRISMQ_REQUIRE_NATIVE", "0") not in ("", "0")

if sys.platform == "win32":
    compile_args = ["/O2", "/W4", "/std:c11", "/wd4100", "/wd4152", "/wd4204", *(["/WX"] if strict else [])]
else:
    # SQLite opens extensions with RTLD_GLOBAL: nothing but the two entry points may be visible.
    compile_args = ["-O2", "-std=c11", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
    compile_args += ["-Werror"] if strict else []

ffibuilder = FFI()
ffibuilder.cdef((NATIVE / "interface.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "prismq._native",
    '#include "prismq.h"',
    sources=[str(source) for source in sorted(NATIVE.glob("*.c"))],
    include_dirs=[str(NATIVE)],
    depends=[str(header) for header in sorted(NATIVE.glob("*.h"))],
    libraries=["synchronization"] if sys.platform == "win32" else [],
    extra_compile_args=compile_args,
    extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
