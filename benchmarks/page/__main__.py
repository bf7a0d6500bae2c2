"""``python -m benchmarks.page``: docs/benchmarks.md and docs/benchmarks.html from the last result."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from benchmarks.page.content import TITLE, page
from benchmarks.page.html import html
from benchmarks.page.markdown import markdown
from benchmarks.results import DIRECTORY, joined, read_run, saved_runs


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 written, 2 there is no result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "results", nargs="*", metavar="result", help="a result (the last one), and others for what it has not"
    )
    parser.add_argument("--directory", default=DIRECTORY, help="where results lie (%(default)s)")
    parser.add_argument("--docs", default="docs", help="where the page is written (%(default)s)")
    options = parser.parse_args(arguments)
    paths = options.results or saved_runs(options.directory)[-1:]
    if not paths:
        print(f"{options.directory} has no result: run `make bench`")
        return 2
    first, *others = map(read_run, paths)
    blocks = page(joined(first, others))
    for name, text in (("benchmarks.md", markdown(blocks)), ("benchmarks.html", html(blocks, title=TITLE))):
        with open(os.path.join(options.docs, name), "w", encoding="utf-8") as file:
            file.write(text)
    print(f"{options.docs}/benchmarks.md and .html are written from {', '.join(paths)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
