"""Where settings come from: defaults, the environment, the user's file, the caller; the later one wins, key by key.

Every layer becomes a flat ``{dotted key: value}``, checked key by key, so that an error names the key, what is allowed
and who gave it. Then the layers are laid over each other, and what only makes sense together is checked on the result.

- Environment: ``MEMSTORE_STORAGE__DURABILITY=os``; a double underscore goes one section down. Lists are JSON or
  separated by ``:``, dictionaries and lists of tables are JSON. An unknown ``MEMSTORE_`` variable is refused, but for
  ``MEMSTORE_ROOT`` (the command line's ``--root``) and ``MEMSTORE_CONFIG`` (the user file).
- User file: ``$MEMSTORE_CONFIG``, else the first of
  ``${XDG_CONFIG_HOME:-~/.config}/memstore/config.{toml,yaml,yml,json}``.
- Caller: a ``Settings`` (complete: it decides every key), a mapping (nested or with dotted keys), or the path of a
  file.

A mapping or a file may have the platform's shape, ``{"memory_system": {...}, "database": {...}}``. A key whose feature
is not there yet is accepted and gives a notice.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from memstore.config import (
    ORDERED_KEYS,
    REPLICATION_FACTOR_MAX,
    SWITCHES,
    Settings,
    flatten,
    key_types,
    missing_feature,
    sections,
    unflatten,
)
from memstore.config_files import read_settings_file
from memstore.config_rules import RULES_KEY, check_rules
from memstore.errors import ConfigError

ENVIRONMENT_PREFIX = "MEMSTORE_"
ENVIRONMENT_OTHERS = ("MEMSTORE_CONFIG", "MEMSTORE_ROOT")
"""Variables that are no settings: the user file's path and the command line's default ``--root``."""
USER_FILE_AUTO = "auto"
_USER_FILE_NAMES = ("config.toml", "config.yaml", "config.yml", "config.json")
_NEAREST_RATIO_MIN = 0.6  # difflib's own default for "close"
_NEAREST_KEY_MAX = 200  # characters compared: the comparison is quadratic, and no key is half as long
_SAME_NAME_WEIGHT = (
    0.95  # a key in the wrong section is nearly, but not quite, as good as one misspelt in the right one
)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings and where they come from; immutable.

    Attributes:
        settings: complete and checked.
        origins: dotted key to ``default``, ``environment MEMSTORE_X``, ``file PATH`` or ``caller``; every key.
        notices: one sentence for each given key whose feature is not there yet.
    """

    settings: Settings
    origins: dict[str, str]
    notices: tuple[str, ...]


class _Given(NamedTuple):
    """One key's value in one layer.

    ``layer`` grows with precedence; ``meant`` is False for defaults and where a complete Settings only repeats them.
    """

    value: Any
    origin: str
    layer: int
    meant: bool = True


def load_settings(
    given: Settings | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    user_file: str | None = USER_FILE_AUTO,
) -> LoadedSettings:
    """Lay all layers over each other.

    Args:
        given: the caller's layer; None for none.
        environ: the environment; ``os.environ`` unless given.
        user_file: the user file's path (must exist); ``"auto"`` looks for it as the module says, None reads none.

    Returns:
        The settings, where each comes from, and what was asked for in vain.

    Raises:
        ConfigError: a key is unknown, a value is not allowed or contradicts another, a file cannot be read or parsed.
    """
    variables = os.environ if environ is None else environ
    defaults = {key: _Given(value, "default", 0, meant=False) for key, value in flatten(Settings()).items()}
    layers = [defaults, _from_environment(variables, 1)]
    path = _find_user_file(variables) if user_file == USER_FILE_AUTO else user_file
    if path is not None:
        layers.append(_from_file(path, 2))
    if given is not None:
        layers.append(_from_caller(given, 3))
    merged: dict[str, _Given] = {}
    for layer in layers:
        merged.update(layer)
    notices = tuple(_notices(merged))
    values = {key: merged[key] for key in defaults}
    _apply_switches(values)
    _check_order(values)
    return LoadedSettings(
        unflatten({key: item.value for key, item in values.items()}),
        {key: item.origin for key, item in values.items()},
        notices,
    )


# --- the layers -----------------------------------------------------------------------------------


def _from_environment(environ: Mapping[str, str], layer: int) -> dict[str, _Given]:
    names = {_variable(key): key for key in key_types()}
    found = {}
    for name in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        if name in ENVIRONMENT_OTHERS:
            continue
        key = names.get(name)
        if key is None:
            hint = _hint(_nearest(_dotted(name), key_types()), show=_variable)
            raise ConfigError(
                f"environment: unknown variable {name}{hint or '; it is no setting of memstore: unset it'}"
            )
        origin = f"environment {name}"
        found[key] = _Given(
            _check(key, _parse_variable(key, environ[name], origin), origin, strict=False), origin, layer
        )
    return found


def _from_file(path: str, layer: int) -> dict[str, _Given]:
    return _from_mapping(read_settings_file(path), f"file {path}", layer)


def _from_caller(given: Any, layer: int) -> dict[str, _Given]:
    if isinstance(given, Settings):
        try:
            values = flatten(given)
        except TypeError as error:
            raise ConfigError(f"caller: {error}") from error
        usual = flatten(Settings())
        return {
            key: _Given(_check(key, value, "caller"), "caller", layer, meant=value != usual[key])
            for key, value in values.items()
        }
    if isinstance(given, Mapping):
        return _from_mapping(given, "caller", layer)
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if isinstance(path, str):
            return _from_file(path, layer)
    raise ConfigError(f"settings must be a Settings, a mapping or the path of a file, not {type(given).__name__}")


def _from_mapping(mapping: Mapping[Any, Any], origin: str, layer: int) -> dict[str, _Given]:
    found: dict[str, _Given] = {}
    for key, value in _leaves(mapping, "", origin):
        if key in found:
            raise ConfigError(f"{origin}: {key} is given twice")
        found[key] = _Given(value if key == "database" else _check(key, value, origin), origin, layer)
    return found


def _leaves(mapping: Mapping[Any, Any], prefix: str, origin: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values; the platform's outer level is taken off."""
    known_sections, known_keys = sections(), key_types()
    for name, value in mapping.items():
        key = prefix + str(name)
        if key == "memory_system" or key.startswith("memory_system."):
            key = key.removeprefix("memory_system").removeprefix(".")
        if isinstance(name, str) and (key in known_keys or (key == "database" and not prefix)):
            yield key, value
        elif isinstance(name, str) and key in known_sections and (key or name == "memory_system"):
            if isinstance(value, Mapping):
                yield from _leaves(value, f"{key}." if key else "memory_system.", origin)
            elif value is not None:  # a YAML section whose keys are all commented out is None
                names = ", ".join(known_sections[key])
                raise ConfigError(
                    f"{origin}: {key or 'memory_system'} is a section, not {reprlib.repr(value)}; it holds {names}"
                )
        else:
            hint = _hint(_nearest(key, [*known_keys, *filter(None, known_sections)]))
            raise ConfigError(
                f"{origin}: unknown key {key}{hint or '; the sections are ' + ', '.join(known_sections[''])}"
            )


def _find_user_file(environ: Mapping[str, str]) -> str | None:
    named = environ.get("MEMSTORE_CONFIG")
    if named:
        return named
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the XDG specification has relative paths ignored
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    paths = (os.path.join(base, "memstore", name) for name in _USER_FILE_NAMES)
    return next((path for path in paths if os.path.exists(path)), None)


# --- one value ------------------------------------------------------------------------------------


def _parse_variable(key: str, text: str, origin: str) -> Any:
    """Lists and dictionaries out of a variable's text; other values are converted leniently later."""
    kind = msgspec.inspect.type_info(key_types()[key])
    if isinstance(kind, msgspec.inspect.ListType) and not text.lstrip().startswith("["):
        if text.strip() and isinstance(kind.item_type, msgspec.inspect.StructType):
            raise ConfigError(f"{origin}: {key} must be a JSON list of tables, not {reprlib.repr(text)}")
        return [part for part in text.split(os.pathsep) if part]
    if isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.DictType):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{origin}: {key} is no valid JSON: {error}") from error
    return text


def _check(key: str, value: Any, origin: str, *, strict: bool = True) -> Any:
    kind = key_types()[key]
    if key == RULES_KEY and isinstance(value, list):
        return check_rules(value, origin)
    try:
        converted = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {key} must be {_allowed(kind)}, not {reprlib.repr(value)}") from error
    numbers = converted.values() if isinstance(converted, dict) else (converted,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ConfigError(f"{origin}: {key} must be {_allowed(kind)}, not {reprlib.repr(value)}")
    if key == "storage.volumes":
        for volume in converted:
            if not os.path.isabs(volume) or "\0" in volume or converted.count(volume) > 1:
                raise ConfigError(f"{origin}: {key} must be absolute paths of different directories, not {volume!r}")
    if key in _DIRECTORY_KEYS and converted and (not os.path.isabs(converted) or "\0" in converted):
        raise ConfigError(f"{origin}: {key} must be the absolute path of a directory, or empty, not {converted!r}")
    return converted


_DIRECTORY_KEYS = frozenset({"storage.lifecycle.archive_volume", "storage.sharding.replica_volume"})


def _allowed(kind: Any) -> str:
    """What a key's type admits, in words."""
    info = msgspec.inspect.type_info(kind)
    match info:
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(repr(value) for value in values)
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.ListType(item_type=item):
            return _allowed_list(item)
        case msgspec.inspect.DictType():
            return "a table of names and finite numbers"
        case _:
            return _allowed_number(info)


def _allowed_list(item: Any) -> str:
    if isinstance(item, msgspec.inspect.EnumType):
        return f"a list of {', '.join(item.cls)}"
    return "a list of tables" if isinstance(item, msgspec.inspect.StructType) else "a list of absolute paths"


def _allowed_number(info: Any) -> str:
    assert isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    low = f"above {info.gt}" if info.gt is not None else f"of at least {info.ge}"
    noun = "an integer" if isinstance(info, msgspec.inspect.IntType) else "a number"
    return f"{noun} {low}" + ("" if info.le is None else f" and at most {info.le}")


# --- the whole ------------------------------------------------------------------------------------


def _apply_switches(values: dict[str, _Given]) -> None:
    """A switch that is off decides its key, unless a later layer gave that key: then the switch counts as on."""
    for switch, key, value_off in SWITCHES:
        off, decided = values[switch], values[key]
        if off.value or decided.value == value_off:
            continue
        if decided.layer > off.layer:
            values[switch] = decided._replace(value=True)
        else:
            values[key] = off._replace(value=value_off)


def _check_order(values: Mapping[str, _Given]) -> None:
    for smaller, larger, may_be_equal, reason in ORDERED_KEYS:
        low, high = values[smaller], values[larger]
        if low.value > high.value or (low.value == high.value and not may_be_equal):
            word = "at most" if may_be_equal else "below"
            raise ConfigError(
                f"{smaller} = {low.value} ({low.origin}) must be {word} "
                f"{larger} = {high.value} ({high.origin}): {reason}"
            )


def _notices(merged: Mapping[str, _Given]) -> Iterator[str]:
    copies = "storage.sharding.replication_factor"
    for key, item in merged.items():
        if key == copies and item.value == REPLICATION_FACTOR_MAX and merged["storage.sharding.replica_volume"].value:
            continue
        reason = missing_feature(key, item.value) if item.meant else None
        if reason:
            yield f"{key} ({item.origin}) has no effect: {reason}"


# --- names ----------------------------------------------------------------------------------------


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def _dotted(variable: str) -> str:
    return variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")


def _hint(nearest: str | None, show: Any = str) -> str:
    return "" if nearest is None else f"; did you mean {show(nearest)}?"


def _nearest(key: str, known: Any) -> str | None:
    """The known dotted key most like this one, whole path against whole path or last name against last name."""
    key = key[:_NEAREST_KEY_MAX]
    last = key.rpartition(".")[2]

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, key, candidate).ratio()
        names = difflib.SequenceMatcher(None, last, candidate.rpartition(".")[2]).ratio()
        return max(whole, names * _SAME_NAME_WEIGHT)

    best = max(known, key=likeness)
    return best if likeness(best) >= _NEAREST_RATIO_MIN else None
