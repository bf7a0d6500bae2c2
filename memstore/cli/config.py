"""``memstore config show``: the settings that hold, and who gave them."""

from __future__ import annotations

import argparse
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.opening import note
from memstore.cli.output import Output
from memstore.cli.render import print_document, print_rows
from memstore.config import flatten
from memstore.config_load import load_settings


def add_parser(commands: Any) -> None:
    """Declare the command."""
    config = add_command(commands, "config", run, "show the settings that hold")
    config.set_defaults(origin=False)
    kinds = config.add_subparsers(metavar="ACTION", title="actions")
    show = add_command(
        kinds, "show", run, "show the settings that hold (defaults < environment < user file < --config)"
    )
    show.add_argument("--origin", action="store_true", help="and where each comes from")


def run(args: argparse.Namespace) -> int:
    """Print every key; keys whose feature is not there yet are told on standard error."""
    loaded = load_settings(args.config)
    values = flatten(loaded.settings)
    origins = dict(loaded.origins)
    if args.durability is not None:
        values["storage.durability"] = args.durability
        origins["storage.durability"] = "flag --durability"
    out = Output.of(args)
    if not args.origin:
        print_document(out, values)
    elif out.format == "json":
        print_document(out, {key: {"value": value, "origin": origins[key]} for key, value in values.items()})
    else:
        rows = [{"key": key, "value": value, "origin": origins[key]} for key, value in values.items()]
        print_rows(out, ("key", "value", "origin"), rows)
    for notice in loaded.notices:
        note(notice)
    return 0
