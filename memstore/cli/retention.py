"""``memstore retention show``: the rules in force, and what they would remove now."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memstore.cli.arguments import add_command
from memstore.cli.exit_codes import OK
from memstore.cli.hold import hold_row
from memstore.cli.opening import open_for_reading
from memstore.cli.output import Output
from memstore.cli.render import print_document, print_rich, print_rows
from memstore.config import RetentionRule, Settings
from memstore.config_load import load_settings
from memstore.config_rules import RULES_KEY
from memstore.lifecycle.action import Action, Expire, Withheld
from memstore.store import MemStore

_DEFAULT_KEY = "storage.lifecycle.cold_retention_months"
_OWN = "metadata.retention_days"
_COLUMNS = ("rule", "agent", "memory_type", "importance", "keep", "origin", "goes_files", "goes_records")
_RULE = re.compile(rf"{re.escape(RULES_KEY)}, rule (\d+)")
_DESCRIPTION = """\
The rules in force, in the order in which they are asked: a record's own metadata.retention_days, then the first rule of
storage.retention.rules that matches, then storage.lifecycle.cold_retention_months; CRITICAL is kept unless a rule names
it, and what a hold covers is kept whatever a rule says. goes_records is how many would go now, at most; where several
rules act on one file, its records are counted for each."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    retention = add_command(
        commands, "retention", run, "how long records are kept, by which rule", description=_DESCRIPTION
    )
    kinds = retention.add_subparsers(metavar="ACTION", title="actions (without one: show)")
    add_command(kinds, "show", run, "the rules in order, the holds, and what would go now", description=_DESCRIPTION)


def run(args: argparse.Namespace) -> int:
    """Print them."""
    with open_for_reading(args) as store:
        found = retention_figures(store, load_settings(args.config).origins)
    out = Output.of(args)
    if out.format == "csv":
        print_rows(out, _COLUMNS, found["rules"])
    elif out.format != "table":
        print_document(out, found)
    else:
        print_rows(out, _COLUMNS, found["rules"])
        print_rich(out, "", *_sentences(found))
        out.flush()
    return OK


def retention_figures(store: MemStore, origins: Mapping[str, str]) -> dict[str, Any]:
    """Everything there is to say, for scripts."""
    planned = store.plan()
    settings = store.settings.storage.retention
    return {
        "rules": rule_rows(store.settings, origins, going(planned)),
        "grace_hours": settings.grace_hours,
        "slack_days": settings.slack_days,
        "holds": [hold_row(hold) for hold in store.holds()],
        "withheld": [each.sentence for each in planned if isinstance(each, Withheld) and each.agent],
    }


def rule_rows(settings: Settings, origins: Mapping[str, str], goes: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """A row for each rule, in the order in which they are asked."""
    months = settings.storage.lifecycle.cold_retention_months
    default = RetentionRule(keep_months=months)
    rows: list[dict[str, Any]] = [{"rule": _OWN, "agent": "*", "keep": "as the record says", "origin": "record"}]
    for number, rule in enumerate(settings.storage.retention.rules, 1):
        rows.append({"rule": str(number), **_shown(rule), "origin": origins.get(RULES_KEY)})
    rows.append({"rule": _DEFAULT_KEY, **_shown(default), "origin": origins.get(_DEFAULT_KEY)})
    for row in rows:
        row["goes_files"], row["goes_records"] = goes[row["rule"], "files"], goes[row["rule"], "records"]
    return [{column: row.get(column, []) for column in _COLUMNS} for row in rows]


def _shown(rule: RetentionRule) -> dict[str, Any]:
    return {
        "agent": rule.agent,
        "memory_type": _listed(rule.memory_type),
        "importance": _listed(rule.importance),
        "keep": keep_text(rule),
    }


def _listed(value: str | Sequence[str]) -> list[str]:
    return [str(value)] if isinstance(value, str) else [str(each) for each in value]


def keep_text(rule: RetentionRule) -> str:
    """``90 days``, ``1 month``, ``for ever``."""
    if rule.keep_forever:
        return "for ever"
    number, unit = (rule.keep_months, "month") if rule.keep_days is None else (rule.keep_days, "day")
    return f"{number:g} {unit}{'' if number == 1 else 's'}"


def going(actions: Iterable[Action]) -> Counter[tuple[str, str]]:
    """How many files and records each rule would have removed, by ``(rule, "files" or "records")``."""
    goes: Counter[tuple[str, str]] = Counter()
    for action in actions:
        if isinstance(action, Expire):
            rules = set(_RULE.findall(action.why)) | {key for key in (_OWN, _DEFAULT_KEY) if key in action.why}
            for rule in rules:
                goes[rule, "files"] += 1
                goes[rule, "records"] += action.records
    return goes


def _sentences(found: dict[str, Any]) -> list[str]:
    told = ["CRITICAL is kept unless a rule names it; a rule without importance is about the others"]
    told.append(f"what goes can be brought back for {found['grace_hours']:g} hours: `memstore undelete`")
    if found["holds"]:
        told.append(f"holds: {', '.join(hold['name'] for hold in found['holds'])}; `memstore hold list` shows them")
    return [*told, *found["withheld"]]
