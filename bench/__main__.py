"""Entry point of `python -m bench`; importing it does nothing, because spawned processes import it again."""

import sys

from bench.command import main

if __name__ == "__main__":
    sys.exit(main())
