"""Builds the C module. Everything else about the distribution is in pyproject.toml.

PRISMQ_NO_NATIVE=1 leaves the C module out on purpose; PRISMQ_REQUIRE_NATIVE=1 makes a failing build an error.
Windows needs the "Desktop development with C++" workload of the Visual Studio Build Tools, no SQLite and no more.
"""

import os
import sys
import sysconfig
from contextlib import suppress

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError


def switched_on(variable):
    return os.environ.get(variable, "0") not in ("", "0")


class OptionalBuild(build_ext):
    """Without a working compiler the distribution becomes a pure-Python one, its wheel's tag included."""

    def run(self):
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as reason:
            if switched_on("PRISMQ_REQUIRE_NATIVE"):
                raise
            print(f"prismq: no C compiler, installing the pure-Python driver ({reason})", file=sys.stderr)
            self.leave_out_the_module()

    def leave_out_the_module(self):
        for built_earlier in self.get_outputs():
            with suppress(FileNotFoundError):
                os.remove(built_earlier)
        self.extensions = []
        self.distribution.ext_modules = []
        # The wheel's tag was settled before the build failed.
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True


# cffi builds for the stable ABI but leaves the wheel tagged for one version; a free-threaded Python has no abi3.
stable_abi = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"bdist_wheel": {"py_limited_api": "cp311"}}

setup(
    cffi_modules=[] if switched_on("PRISMQ_NO_NATIVE") else ["native/build_native.py:ffibuilder"],
    cmdclass={"build_ext": OptionalBuild},
    options=stable_abi,
)
