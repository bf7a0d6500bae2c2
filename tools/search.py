#!/usr/bin/env python3
"""Search a store: the analysts' tool. The same as ``memstore search``.

    tools/search.py --root STORE_DIR "timeout AND market" --agent 'bdi_*' --since 7d --type ERROR --facets type,agent
    tools/search.py --root STORE_DIR                      interactive, on a terminal
    tools/search.py --help

In a checkout it runs the checkout's code, with the environment that ``make setup`` makes if this Python lacks what
memstore needs; anywhere else, the memstore that is installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Hand everything to the command line."""
    if (CHECKOUT / "memstore" / "cli").is_dir():
        sys.path.insert(0, str(CHECKOUT))
    try:
        from memstore.cli.main import main as memstore
    except ImportError as error:
        python = CHECKOUT / ".venv" / "bin" / "python"
        if python.exists() and Path(sys.prefix).resolve() != python.parents[1].resolve():
            os.execv(python, [str(python), __file__, *sys.argv[1:]])  # noqa: S606 - this very script, by the checkout's Python
        print(f"search.py: {error}; run `make setup`, or `pip install .` in the checkout", file=sys.stderr)
        return 1
    return memstore(["search", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
