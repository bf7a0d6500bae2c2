"""A settings file as nested dictionaries: TOML, YAML or JSON, by its ending.

Parsers are imported only when such a file is read. A key that stands twice is an error in all three formats: which one
counts should not have to be guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from typing import Any

from memstore.errors import ConfigError

SETTINGS_FILE_BYTES_MAX = 1024 * 1024
"""No settings file is larger; a wrong path may be."""


def read_settings_file(path: str) -> Mapping[Any, Any]:
    """What the file holds; empty for an empty file.

    Raises:
        ConfigError: it is missing, unreadable, of another format, or not valid: with path and line.
    """
    ending = os.path.splitext(path)[1].lower()
    parser = {".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml, ".json": _parse_json}.get(ending)
    if parser is None:
        raise ConfigError(f"file {path}: a settings file ends in .toml, .yaml, .yml or .json")
    text = _read_text(path)
    try:
        content = parser(text, path) if text.strip() else None
    except RecursionError as error:
        raise ConfigError(f"file {path}: nested too deeply") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"file {path}: holds a {type(content).__name__}, not a table of settings")
    return content


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(SETTINGS_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"file {path}: cannot be read: {reason}") from error
    if len(data) > SETTINGS_FILE_BYTES_MAX:
        raise ConfigError(f"file {path}: is larger than {SETTINGS_FILE_BYTES_MAX} bytes: no settings file is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"file {path}, line {line}: is no UTF-8") from error


def _parse_toml(text: str, path: str) -> Any:
    import tomllib  # noqa: PLC0415 - costs more than the rest of the loading, and most processes read no TOML

    try:
        return tomllib.loads(text)
    except ValueError as error:
        place = re.search(r"at line (\d+)", str(error))
        line = int(place[1]) if place else text.count("\n") + 1  # "at end of document"
        raise ConfigError(f"file {path}, line {line}: no valid TOML: {error}") from error


def _parse_json(text: str, path: str) -> Any:
    import json  # noqa: PLC0415 - as above

    def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            lines = [i for i, line in enumerate(text.split("\n"), 1) if f'"{repeated}"' in line]
            raise ConfigError(f"file {path}, line {lines[-1] if lines else 1}: the key {repeated!r} stands twice")
        return table

    try:
        return json.loads(text, object_pairs_hook=refuse_repeats)
    except json.JSONDecodeError as error:
        raise ConfigError(f"file {path}, line {error.lineno}: no valid JSON: {error}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError(f"file {path}: no valid JSON: {error}") from error


def _parse_yaml(text: str, path: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ConfigError(f"file {path}: reading YAML needs PyYAML: pip install 'memstore[yaml]'") from error

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's
            names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
            for name, _ in node.value:
                if names.count(name.value) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"{name.value!r} stands twice", name.start_mark)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"file {path}, line {line}: no valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"file {path}: no valid YAML: {error}") from error
