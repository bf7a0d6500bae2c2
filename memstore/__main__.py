"""``python -m memstore``: the command line."""

from __future__ import annotations

import sys

from memstore.cli.main import main

if __name__ == "__main__":  # writer processes of the demo import this module again
    sys.exit(main())
