"""Retention rules as people write them: each is checked by itself, and against those that stand before it.

A rule that can never match any record is refused, because whoever wrote it believes that it does something.
"""

from __future__ import annotations

import fnmatch
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from memstore.config import RetentionRule
from memstore.errors import ConfigError
from memstore.nearest import nearest_name
from memstore.record import Importance, MemoryType

RULES_KEY = "storage.retention.rules"
KEEP_DAYS_MAX = 1_000_000
"""2,700 years: what is meant to be longer is ``keep_forever``."""
KEEP_MONTHS_MAX = 12_000
RULES_MAX = 1000
"""Each record of a file under retention is held against them."""
_NAMES = RetentionRule.__struct_fields__
_CHOICES: Mapping[str, tuple[str, ...]] = {"memory_type": tuple(MemoryType), "importance": tuple(Importance)}


def check_rules(given: Sequence[Any], origin: str) -> list[RetentionRule]:
    """The rules of one layer of settings.

    Args:
        given: tables, as a file or the caller has them.
        origin: who gave them, for the error.

    Raises:
        ConfigError: a rule is no table of the known names and values, is kept for no time or in two ways, or can never
            match because those before it match all that it could.
    """
    if len(given) > RULES_MAX:
        raise ConfigError(f"{origin}: {RULES_KEY} has {len(given)} rules; the limit is {RULES_MAX}")
    rules: list[RetentionRule] = []
    for number, item in enumerate(given, 1):
        place = f"{origin}: {RULES_KEY}, rule {number}"
        rule = _rule(item, place)
        _check_period(rule, place)
        _check_not_hidden(rule, rules, place)
        rules.append(rule)
    return rules


def rule_kinds(rule: RetentionRule) -> frozenset[tuple[str, str]]:
    """``(memory_type, importance)`` of the records that a rule is about; CRITICAL only where it names it."""
    types = _listed(rule.memory_type) or tuple(MemoryType)
    importances = _listed(rule.importance) or tuple(each for each in Importance if each is not Importance.CRITICAL)
    return frozenset((str(memory_type), str(importance)) for memory_type in types for importance in importances)


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _rule(item: Any, place: str) -> RetentionRule:
    if isinstance(item, RetentionRule):
        item = msgspec.to_builtins(item)
    if not isinstance(item, Mapping):
        raise ConfigError(f"{place} must be a table of {', '.join(_NAMES)}, not {reprlib.repr(item)}")
    for name in item:
        if name not in _NAMES:
            nearest = nearest_name(name, _NAMES)
            hint = f"did you mean {nearest}?" if nearest else f"it may hold {', '.join(_NAMES)}"
            raise ConfigError(f"{place}: unknown name {name}; {hint}")
    for name, allowed in _CHOICES.items():
        _check_choice(item.get(name, []), f"{place}: {name}", allowed)
    try:
        return msgspec.convert(dict(item), RetentionRule)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{place}: {error}") from error


def _check_choice(value: Any, place: str, allowed: Sequence[str]) -> None:
    for each in value if isinstance(value, list) else [value]:
        if each not in allowed:
            nearest = nearest_name(str(each).upper(), allowed)
            hint = f"; did you mean {nearest}?" if nearest else ""
            raise ConfigError(f"{place} must be one or a list of {', '.join(allowed)}, not {reprlib.repr(each)}{hint}")


def _check_period(rule: RetentionRule, place: str) -> None:
    given = [name for name in ("keep_days", "keep_months") if getattr(rule, name) is not None]
    given += ["keep_forever"] * rule.keep_forever
    if len(given) != 1:
        raise ConfigError(
            f"{place} must say how long by exactly one of keep_days, keep_months and keep_forever = true; "
            f"it has {' and '.join(given) or 'none'}"
        )
    for name, largest in (("keep_days", KEEP_DAYS_MAX), ("keep_months", KEEP_MONTHS_MAX)):
        value = getattr(rule, name)
        if value is not None and not (math.isfinite(value) and 0 < value <= largest):
            raise ConfigError(f"{place}: {name} must be above 0 and at most {largest}, not {value}")
    if not rule.agent:
        raise ConfigError(f"{place}: agent must be an id or a pattern such as 'bot_*', not empty")


def _check_not_hidden(rule: RetentionRule, before: Sequence[RetentionRule], place: str) -> None:
    """See that those before it leave something for it to match."""
    left = set(rule_kinds(rule))
    hiding = []
    for number, earlier in enumerate(before, 1):
        if not _covers(earlier.agent, rule.agent):
            continue
        taken = left & rule_kinds(earlier)
        if taken:
            hiding.append(str(number))
            left -= taken
    if not left:
        raise ConfigError(
            f"{place} can never match: {'rule' if len(hiding) == 1 else 'rules'} {', '.join(hiding)} before it "
            "match all of it; put it before them, or take it out"
        )


def _covers(pattern: str, other: str) -> bool:
    """Whether every agent of the other pattern is one of this pattern; False in doubt."""
    if pattern in ("*", other):
        return True
    # A star takes the other's wildcards in as if they were text; "?" and "[" would take one character for many.
    in_doubt = any(char in other for char in "*?[") and ("[" in other or any(char in pattern for char in "?["))
    return not in_doubt and fnmatch.fnmatchcase(other, pattern)
