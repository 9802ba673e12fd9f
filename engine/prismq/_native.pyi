"""The compiled module: see native/interface.h."""

from typing import Any

ffi: Any
lib: Any
