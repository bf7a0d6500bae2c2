"""``memstore completion``: a script that teaches the shell memstore's commands and flags."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.output import Output

SHELLS = ("bash", "zsh", "tcsh")
_DESCRIPTION = """\
Print a completion script.

bash: memstore completion bash > ~/.local/share/bash-completion/completions/memstore
zsh:  memstore completion zsh > ~/.zfunc/_memstore    (with fpath+=~/.zfunc before compinit)
tcsh: memstore completion tcsh > ~/.memstore.tcsh     (source it in ~/.cshrc)"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(commands, "completion", run, "print a shell's completion script", description=_DESCRIPTION)
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    out = Output.of(args)
    out.write_text(shtab.complete(args.parser, shell=args.shell) + "\n")
    out.flush()
    return 0
