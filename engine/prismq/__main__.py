"""`python -m prismq` is the command `prismq`."""

import sys

from prismq.cli import main

if __name__ == "__main__":
    sys.exit(main())
