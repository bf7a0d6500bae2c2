import json
import os
import re
import subprocess
import sys
import tomllib
import types

import msgspec
import pytest

import memstore.config
from memstore.config import (
    MergingSettings,
    PerformanceSettings,
    Settings,
    ShardingSettings,
    StorageSettings,
    flatten,
    key_types,
    sections,
)
from memstore.config_load import LoadedSettings, load_settings
from memstore.errors import ConfigError

CONFIG_DIRECTORY = os.path.join(os.path.dirname(__file__), os.pardir, "config")
PROFILES = ("small", "medium", "large")
DEFAULTS = flatten(Settings())
PLATFORM = {
    "memory_system": {
        "storage": {
            "sharding": {
                "enabled": True,
                "agents_per_shard": 100,
                "max_shard_size_gb": 50,
                "auto_scale": True,
                "replication_factor": 2,
            },
            "lifecycle": {
                "hot_storage_days": 7,
                "warm_storage_days": 30,
                "cold_retention_months": 12,
                "compression_enabled": True,
                "deduplication_enabled": True,
            },
            "caching": {
                "recent_memories_mb": 512,
                "pattern_cache_mb": 256,
                "agent_stats_cache_mb": 128,
                "cache_ttl_minutes": 60,
            },
        },
        "performance": {
            "max_concurrent_operations": 100,
            "batch_size": 500,
            "async_processing": True,
            "background_optimization": True,
        },
        "monitoring": {
            "metrics_retention_days": 90,
            "alert_thresholds": {"disk_usage_percent": 80, "error.rate": 0.05},
            "health_check_interval_seconds": 30,
        },
    },
    "database": {"host": "localhost", "password": "do-not-print"},
}


def load(given=None, environ=None, user_file=None) -> LoadedSettings:
    return load_settings(given, environ=environ or {}, user_file=user_file)


def write(directory, name, text) -> str:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refusal(given=None, environ=None, user_file=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(given, environ, user_file)
    return str(caught.value)


# --- defaults and structs ---------------------------------------------------------------------


def test_nothing_given_is_the_defaults():
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() == DEFAULTS.keys() == key_types().keys()
    assert loaded.notices == ()


def test_defaults_pass_their_own_checks():
    assert load(Settings()).settings == Settings()


def test_settings_are_frozen_and_defaults_are_not_shared():
    settings = Settings()
    with pytest.raises(AttributeError):
        settings.storage.durability = "os"
    settings.storage.volumes.append("/x")
    assert Settings().storage.volumes == []


def test_every_key_has_a_documented_reason():
    with open(memstore.config.__file__, encoding="utf-8") as file:
        source = file.read()
    for key in DEFAULTS:
        name = key.rpartition(".")[2]
        assert re.search(rf'^    {name}: .+\n    """[^"]{{20,}}', source, re.MULTILINE), key


def test_flatten_gives_every_leaf_by_its_dotted_name():
    assert DEFAULTS["storage.durability"] == "fsync"
    assert DEFAULTS["storage.caching.recent_memories_mb"] == 96
    assert DEFAULTS["monitoring.alert_thresholds"] == {}
    assert DEFAULTS["writing.waiting_bytes_max"] == 4 * 2**30


# --- layers -----------------------------------------------------------------------------------


def test_later_layers_win_key_by_key_and_say_so(tmp_path):
    user = write(tmp_path, "config.toml", "storage.shards = 3\nmerging.lanes_max = 5\nreading.open_files_max = 9\n")
    environ = {
        "MEMSTORE_STORAGE__SHARDS": "2",
        "MEMSTORE_STORAGE__DURABILITY": "os",
        "MEMSTORE_MERGING__LANES_MAX": "4",
    }
    loaded = load({"merging": {"lanes_max": 6}}, environ, user)
    assert loaded.settings.storage.durability == "os"
    assert loaded.origins["storage.durability"] == "environment MEMSTORE_STORAGE__DURABILITY"
    assert loaded.settings.storage.shards == 3
    assert loaded.origins["storage.shards"] == f"file {user}"
    assert loaded.settings.merging.lanes_max == 6
    assert loaded.origins["merging.lanes_max"] == "caller"
    assert loaded.settings.reading.open_files_max == 9
    assert loaded.origins["writing.seal_after_s"] == "default"


def test_a_settings_object_decides_every_key():
    loaded = load(Settings(), {"MEMSTORE_STORAGE__DURABILITY": "os"})
    assert loaded.settings.storage.durability == "fsync"
    assert set(loaded.origins.values()) == {"caller"}


def test_a_file_the_caller_names_wins_over_the_user_file(tmp_path):
    user = write(tmp_path, "user.toml", "storage.shards = 3\n")
    mine = write(tmp_path, "mine.json", '{"storage": {"shards": 5}}')
    for given in (mine, tmp_path / "mine.json"):
        loaded = load(given, user_file=user)
        assert loaded.settings.storage.shards == 5
        assert loaded.origins["storage.shards"] == f"file {mine}"


def test_loading_what_was_loaded_changes_nothing():
    first = load(PLATFORM).settings
    assert load(first).settings == first


@pytest.mark.parametrize(
    "given",
    [
        {"storage": {"caching": {"pattern_cache_mb": 0}}},
        {"storage.caching.pattern_cache_mb": 0},
        {"storage": {"caching.pattern_cache_mb": 0}},
        {"memory_system": {"storage": {"caching": {"pattern_cache_mb": 0}}}},
        {"memory_system.storage": {"caching.pattern_cache_mb": 0}},
        types.MappingProxyType({"storage": types.MappingProxyType({"caching.pattern_cache_mb": 0})}),
    ],
)
def test_mappings_are_nested_or_dotted(given):
    assert load(given).settings.storage.caching.pattern_cache_mb == 0


def test_a_key_given_twice_in_one_layer_is_refused():
    assert "storage.shards is given twice" in refusal({"storage": {"shards": 1}, "storage.shards": 2})


@pytest.mark.parametrize("given", [5, b"x.toml", ["storage"], StorageSettings()])
def test_other_types_from_the_caller_are_refused(given):
    assert "a Settings, a mapping or the path of a file" in refusal(given)


# --- environment ------------------------------------------------------------------------------


def test_environment_values_are_parsed_by_type():
    loaded = load(
        environ={
            "MEMSTORE_MERGING__BACKGROUND": "false",
            "MEMSTORE_STORAGE__CACHING__CACHE_TTL_MINUTES": "1.5",
            "MEMSTORE_STORAGE__VOLUMES": "/a:/b",
            "MEMSTORE_MONITORING__ALERT_THRESHOLDS": '{"cpu": 3}',
            "PATH": "/bin",
        }
    )
    assert loaded.settings.merging.background is False
    assert loaded.settings.storage.caching.cache_ttl_minutes == 1.5
    assert loaded.settings.storage.volumes == ["/a", "/b"]
    assert loaded.settings.monitoring.alert_thresholds == {"cpu": 3.0}


def test_a_list_in_the_environment_may_be_json_or_empty():
    assert load(environ={"MEMSTORE_STORAGE__VOLUMES": '["/a:b"]'}).settings.storage.volumes == ["/a:b"]
    assert load(environ={"MEMSTORE_STORAGE__VOLUMES": ""}).settings.storage.volumes == []


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MEMSTORE_STORAGE__DURABILTY", "MEMSTORE_STORAGE__DURABILITY"),
        ("MEMSTORE_DURABILITY", "MEMSTORE_STORAGE__DURABILITY"),
        ("MEMSTORE_STORAGE_DURABILITY", "MEMSTORE_STORAGE__DURABILITY"),
        ("MEMSTORE_MERGING__LANE_MAX", "MEMSTORE_MERGING__LANES_MAX"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest_name(name, nearest):
    message = refusal(environ={name: "1"})
    assert name in message
    assert f"did you mean {nearest}?" in message


def test_root_and_config_variables_are_no_settings(tmp_path):
    user = write(tmp_path, "config.toml", "storage.shards = 3\n")
    loaded = load_settings(environ={"MEMSTORE_ROOT": "/x", "MEMSTORE_CONFIG": user})
    assert loaded.settings.storage.shards == 3


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MEMSTORE_STORAGE__SHARDS", "many", "an integer of at least 1 and at most 1000"),
        ("MEMSTORE_STORAGE__SHARDS", "", "an integer"),
        ("MEMSTORE_MERGING__BACKGROUND", "yes", "true or false"),
        ("MEMSTORE_STORAGE__CACHING__PATTERN_CACHE_MB", "nan", "a number of at least 0"),
        ("MEMSTORE_MONITORING__ALERT_THRESHOLDS", "{", "no valid JSON"),
        ("MEMSTORE_STORAGE__VOLUMES", "[1", "no valid JSON"),
        ("MEMSTORE_STORAGE__RETENTION__RULES", "bot_*:30", "must be a JSON list of tables"),
        ("MEMSTORE_STORAGE__RETENTION__RULES", "[{]", "no valid JSON"),
        ("MEMSTORE_STORAGE__LIFECYCLE__DIGEST_TYPES", "ERROR:LOUD", "a list of INTERACTION, CONTEXT"),
    ],
)
def test_bad_variable_names_key_and_what_is_allowed(name, value, allowed):
    message = refusal(environ={name: value})
    assert name in message
    assert name.removeprefix("MEMSTORE_").lower().replace("__", ".") in message
    assert allowed in message


# --- the user file ----------------------------------------------------------------------------


def test_user_file_is_found_under_xdg_config_home(tmp_path):
    path = write(tmp_path, "memstore/config.yaml", "storage:\n  shards: 3\n")
    loaded = load_settings(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert loaded.origins["storage.shards"] == f"file {path}"


def test_user_file_is_found_under_home_and_toml_comes_first(tmp_path):
    write(tmp_path, ".config/memstore/config.json", '{"storage": {"shards": 2}}')
    path = write(tmp_path, ".config/memstore/config.toml", "[storage]\nshards = 3\n")
    loaded = load_settings(environ={"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative/is/ignored"})
    assert loaded.origins["storage.shards"] == f"file {path}"


def test_no_user_file_is_no_error(tmp_path):
    assert load_settings(environ={"XDG_CONFIG_HOME": str(tmp_path)}).settings == Settings()


def test_user_file_none_reads_none(tmp_path):
    path = write(tmp_path, "config.toml", "storage.shards = 3\n")
    assert load_settings(environ={"MEMSTORE_CONFIG": path}, user_file=None).settings == Settings()


def test_missing_file_that_somebody_named_is_refused(tmp_path):
    missing = str(tmp_path / "no.toml")
    assert missing in refusal(missing)
    assert missing in refusal(user_file=missing)
    with pytest.raises(ConfigError, match=r"no\.toml"):
        load_settings(environ={"MEMSTORE_CONFIG": missing})


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", "[storage]\nshards = 3\n"),
        ("a.TOML", "\ufeffstorage.shards = 3\n"),
        ("a.yaml", "storage:\n  shards: 3\nmerging:\n"),
        ("a.yml", "{storage: {shards: 3}}"),
        ("a.json", '{"storage": {"shards": 3}}'),
    ],
)
def test_toml_yaml_and_json_say_the_same(tmp_path, name, text):
    assert load(write(tmp_path, name, text)).settings.storage.shards == 3


@pytest.mark.parametrize("name", ["a.toml", "a.yaml", "a.json"])
@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_sets_nothing(tmp_path, name, text):
    assert load(write(tmp_path, name, text)).settings == Settings()


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.toml", "[storage]\nshards = \n", 2),
        ("a.toml", "[storage]\nshards = [1,\n", 3),
        ("a.toml", "[storage]\nshards = 1\nshards = 2\n", 3),
        ("a.json", '{"storage":\n  {"shards": 1,}}', 2),
        ("a.json", '{"storage":\n {"shards": 1,\n"shards": 2}}', 3),
        ("a.yaml", "storage:\n  shards: [1\nx: y\n", 3),
        ("a.yaml", "storage:\n  shards: 1\n  shards: 2\n", 2),
        ("a.yaml", "storage: !!python/object:os.system {}\n", 1),
        ("a.toml", b"[storage]\n# \xff\n", 2),
    ],
)
def test_syntax_error_names_path_and_line(tmp_path, name, text, line):
    path = write(tmp_path, name, text)
    assert refusal(path).startswith(f"file {path}, line {line}: ")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ini", "", "ends in .toml, .yaml, .yml or .json"),
        ("a.json", "[1]", "holds a list"),
        ("a.yaml", "storage", "holds a str"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", " " * (2**20 + 1), "larger than"),
        ("a.yaml", "when: 2024-99-99", "no valid YAML"),
        ("a.json", '{"storage": {"shards": ' + "9" * 5000 + "}}", "no valid JSON"),
        ("a.yaml", "1: 2\n", "unknown key 1"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, name, text, message):
    path = write(tmp_path, name, text)
    refused = refusal(path)
    assert message in refused
    assert path in refused


def test_a_directory_is_no_settings_file(tmp_path):
    (tmp_path / "a.toml").mkdir()
    assert "cannot be read" in refusal(tmp_path / "a.toml")
    assert "cannot be read" in refusal("a\0.toml")


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "pip install 'memstore[yaml]'" in refusal(write(tmp_path, "a.yaml", "storage: {}"))


# --- unknown keys and bad values --------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "unknown", "nearest"),
    [
        ({"storage": {"durabilty": "os"}}, "storage.durabilty", "storage.durability"),
        ({"storag": {"durability": "os"}}, "storag", "storage"),
        ({"durability": "os"}, "durability", "storage.durability"),
        ({"caching": {}}, "caching", "storage.caching"),
        ({"writing.lanes_max": 3}, "writing.lanes_max", "merging.lanes_max"),
        ({"storage": {"recent_memories_mb": 3}}, "storage.recent_memories_mb", "storage.caching.recent_memories_mb"),
        ({"memory_system": {"storage": {"shard": 3}}}, "storage.shard", "storage.shards"),
        ({"storage.durability.mode": 1}, "storage.durability.mode", "storage.durability"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_name(given, unknown, nearest):
    assert f"caller: unknown key {unknown}; did you mean {nearest}?" in refusal(given)


def test_unknown_key_names_the_file_it_stands_in(tmp_path):
    path = write(tmp_path, "a.toml", "[merging]\nlane_max = 3\n")
    assert refusal(path) == f"file {path}: unknown key merging.lane_max; did you mean merging.lanes_max?"


@pytest.mark.parametrize("given", [{"zzz": 1}, {1: 2}, {"": 1}, {"memory_system": {"": 1}}, {"q" * 100_000: 1}])
def test_unknown_key_unlike_any_lists_the_sections(given):
    sections_there_are = "storage, writing, merging, scheduling, backup, reading, search, performance, monitoring"
    assert f"the sections are {sections_there_are}" in refusal(given)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("storage.durability", "none", "'fsync' or 'os'"),
        ("storage.shards", 0, "an integer of at least 1 and at most 1000"),
        ("storage.shards", True, "an integer"),
        ("storage.shards", "3", "an integer"),
        ("storage.shards", None, "an integer"),
        ("storage.caching.cache_ttl_minutes", 0, "a number above 0"),
        ("storage.caching.recent_memories_mb", -1, "a number of at least 0"),
        ("storage.caching.recent_memories_mb", float("nan"), "a number of at least 0"),
        ("storage.sharding.max_shard_size_gb", float("inf"), "a number above 0"),
        ("merging.background", 1, "true or false"),
        ("merging.age_s", "soon", "a number of at least 0"),
        ("writing.batch_bytes_max", 2**80, "an integer"),
        ("monitoring.alert_thresholds", {"cpu": "high"}, "a table of names and finite numbers"),
        ("monitoring.alert_thresholds", {"cpu": float("inf")}, "a table of names and finite numbers"),
        ("storage.volumes", "/a", "a list of absolute paths"),
        ("storage.volumes", ["relative"], "absolute paths of different directories"),
        ("storage.volumes", ["/a", "/a"], "absolute paths of different directories"),
        ("storage.volumes", ["/a\0"], "absolute paths of different directories"),
        ("storage.lifecycle.archive_volume", 5, "text"),
        ("storage.lifecycle.archive_volume", "archive", "the absolute path of a directory, or empty"),
        ("storage.lifecycle.archive_volume", "/a\0", "the absolute path of a directory, or empty"),
        ("storage.lifecycle.cold_level", 23, "an integer of at least 1 and at most 22"),
        ("storage.lifecycle.warm_frame_bytes", 0, "an integer of at least 4096"),
        ("storage.lifecycle.digest_types", ["loud"], "a list of INTERACTION, CONTEXT"),
        ("storage.retention.rules", "none", "a list of tables"),
        ("storage.retention.grace_hours", -1, "a number of at least 0"),
        ("scheduling.tier_s", 0, "a number above 0"),
    ],
)
def test_a_value_that_is_not_allowed_names_key_and_what_is(key, value, allowed):
    message = refusal({key: value})
    assert message.startswith(f"caller: {key} must be {allowed}")


def test_a_section_given_a_plain_value_lists_what_it_holds():
    message = refusal({"storage": {"caching": 64}})
    assert "storage.caching is a section" in message
    assert "pattern_cache_mb" in message
    assert "memory_system is a section" in refusal({"memory_system": 1})


def test_a_settings_object_is_checked_too():
    assert "storage.shards must be" in refusal(Settings(storage=StorageSettings(shards=0)))
    assert "storage must be a StorageSettings" in refusal(Settings(storage={"shards": 1}))


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({"writing": {"commit_bytes_max": 2**27}}, ("writing.commit_bytes_max", "writing.lane_bytes_max")),
        ({"writing.lane_bytes_max": 2**33}, ("writing.lane_bytes_max", "writing.waiting_bytes_max")),
        ({"writing.batch_bytes_max": 2**20}, ("storage.record_bytes_max", "writing.batch_bytes_max")),
        ({"merging.waiting_bytes": 2**33}, ("merging.waiting_bytes", "writing.waiting_bytes_max")),
        (
            {"storage.lifecycle.hot_storage_days": 30},
            ("storage.lifecycle.hot_storage_days", "storage.lifecycle.warm_storage_days"),
        ),
    ],
)
def test_settings_that_contradict_each_other_name_both_keys_and_origins(given, keys):
    message = refusal(given)
    for key in keys:
        assert f"{key} = " in message
    assert "(caller)" in message
    assert "(default)" in message


# --- retention rules --------------------------------------------------------------------------

RULES = [
    {"agent": "bot_*", "importance": "LOW", "keep_days": 0.5},
    {"memory_type": ["LEARNING", "BELIEF"], "importance": ["CRITICAL", "HIGH"], "keep_forever": True},
    {"memory_type": "ERROR", "keep_months": 24},
]


def test_rules_come_from_mappings_files_and_the_environment_alike(tmp_path):
    toml = (
        '[[storage.retention.rules]]\nagent = "bot_*"\nimportance = "LOW"\nkeep_days = 0.5\n'
        '[[storage.retention.rules]]\nmemory_type = ["LEARNING", "BELIEF"]\nimportance = ["CRITICAL", "HIGH"]\n'
        'keep_forever = true\n[[storage.retention.rules]]\nmemory_type = "ERROR"\nkeep_months = 24\n'
    )
    expected = load({"storage.retention.rules": RULES}).settings
    assert [rule.agent for rule in expected.storage.retention.rules] == ["bot_*", "*", "*"]
    assert load(write(tmp_path, "rules.toml", toml)).settings == expected
    assert load(environ={"MEMSTORE_STORAGE__RETENTION__RULES": json.dumps(RULES)}).settings == expected
    assert load(expected).settings == expected
    assert flatten(expected)["storage.retention.rules"] == RULES


def test_an_empty_variable_means_no_rules_and_lists_of_names_may_be_separated_by_colons():
    environ = {
        "MEMSTORE_STORAGE__RETENTION__RULES": "",
        "MEMSTORE_STORAGE__LIFECYCLE__DIGEST_TYPES": "ERROR:CONTEXT",
    }
    storage = load(environ=environ).settings.storage
    assert storage.retention.rules == []
    assert storage.lifecycle.digest_types == ["ERROR", "CONTEXT"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["LOW"], "rule 1 must be a table of agent, memory_type"),
        ([{"keep_days": 1, "kind": "ERROR"}], "rule 1: unknown name kind"),
        ([{"keep_day": 1}], "rule 1: unknown name keep_day; did you mean keep_days?"),
        ([{"keep_days": 1, "memory_type": "error"}], "not 'error'; did you mean ERROR?"),
        ([{"keep_days": 1, "memory_type": ["ERROR", "X"]}], "rule 1: memory_type must be one or a list of INTER"),
        ([{"keep_days": 1, "importance": "LOUD"}], "rule 1: importance must be one or a list of CRITICAL, HIGH"),
        ([{"keep_days": 1, "importance": None}], "rule 1: importance must be one"),
        ([{"keep_days": 1, "agent": ""}], "rule 1: agent must be an id or a pattern"),
        ([{"keep_days": 1, "agent": 5}], "rule 1: Expected `str`"),
        ([{"keep_days": 1}, {"keep_days": 0, "agent": "a"}], "rule 2: keep_days must be above 0"),
        ([{"keep_days": -3}], "rule 1: keep_days must be above 0"),
        ([{"keep_days": float("nan")}], "rule 1: keep_days must be above 0"),
        ([{"keep_days": 1e300}], "rule 1: keep_days must be above 0 and at most"),
        ([{"keep_months": 0}], "rule 1: keep_months must be above 0"),
        ([{"keep_months": 1.5}], "rule 1: Expected `int | null`"),
        ([{}], "exactly one of keep_days, keep_months and keep_forever = true; it has none"),
        ([{"keep_days": 1, "keep_months": 1}], "it has keep_days and keep_months"),
        ([{"keep_forever": False}], "it has none"),
        ([{"keep_days": 1}] * 1001, "has 1001 rules; the limit is 1000"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_number(rules, message):
    refused = refusal({"storage.retention.rules": rules})
    assert refused.startswith("caller: storage.retention.rules")
    assert message in refused


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{}], {}),
        ([{}], {"agent": "bot_1"}),
        ([{"agent": "bot_*"}], {"agent": "bot_1"}),
        ([{"agent": "b*"}], {"agent": "bot_*"}),
        ([{"agent": "bot_?"}], {"agent": "bot_?", "memory_type": "ERROR"}),
        ([{"memory_type": ["ERROR", "GOAL"]}], {"memory_type": "GOAL", "importance": "LOW"}),
        ([{"importance": "LOW"}, {"importance": ["MEDIUM", "HIGH"]}], {"memory_type": "PLAN"}),
        ([{"importance": "CRITICAL"}], {"importance": "CRITICAL", "agent": "a"}),
    ],
)
def test_a_rule_that_can_never_match_is_refused(earlier, later):
    rules = [{**rule, "keep_days": 1} for rule in [*earlier, later]]
    numbers = ", ".join(str(number) for number in range(1, len(rules)))
    message = refusal({"storage.retention.rules": rules})
    assert f"rule {len(rules)} can never match: rule{'s' if len(earlier) > 1 else ''} {numbers} before it" in message


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"agent": "bot_1"}, {}),
        ({"agent": "a?"}, {"agent": "a*"}),
        ({"agent": "*]"}, {"agent": "[abc]"}),
        ({"agent": "bot_*"}, {"agent": "cat_*"}),
        ({}, {"importance": "CRITICAL"}),
        ({"importance": "LOW"}, {"importance": ["LOW", "HIGH"]}),
        ({"memory_type": "ERROR"}, {}),
    ],
)
def test_a_rule_that_may_still_match_something_is_accepted(earlier, later):
    rules = [{**earlier, "keep_days": 1}, {**later, "keep_days": 2}]
    assert len(load({"storage.retention.rules": rules}).settings.storage.retention.rules) == 2


# --- switches ---------------------------------------------------------------------------------


def test_background_optimization_off_switches_the_merging_off():
    loaded = load({"performance": {"background_optimization": False}})
    assert loaded.settings.merging.background is False
    assert loaded.origins["merging.background"] == "caller"
    assert load(Settings(performance=PerformanceSettings(background_optimization=False))).settings.merging == (
        MergingSettings(background=False)
    )


def test_a_later_layer_switches_the_merging_on_again():
    environ = {"MEMSTORE_PERFORMANCE__BACKGROUND_OPTIMIZATION": "false"}
    loaded = load({"merging.background": True}, environ)
    assert loaded.settings.merging.background is True
    assert loaded.settings.performance.background_optimization is True
    assert load(loaded.settings).settings == loaded.settings


def test_sharding_off_means_one_shard():
    assert load({"storage.sharding.enabled": False}).settings.storage.shards == 1
    off = Settings(storage=StorageSettings(shards=9, sharding=ShardingSettings(enabled=False)))
    assert load(off).settings.storage.shards == 1


# --- the platform's shape ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["mapping", "json", "yaml"])
def test_the_platforms_file_is_accepted_as_it_is(tmp_path, how):
    given = PLATFORM if how == "mapping" else write(tmp_path, f"platform.{how}", json.dumps(PLATFORM))  # JSON is YAML
    settings = load(given).settings
    assert settings.storage.sharding.replication_factor == 2
    assert settings.storage.caching.recent_memories_mb == 512
    assert settings.performance.max_concurrent_operations == 100
    assert settings.performance.batch_size == 500
    assert settings.monitoring.alert_thresholds == {"disk_usage_percent": 80.0, "error.rate": 0.05}


def test_keys_without_a_feature_are_reported(tmp_path):
    path = write(tmp_path, "platform.json", json.dumps(PLATFORM))
    notices = load(path).notices
    reported = {notice.split(" ")[0] for notice in notices}
    assert reported == {
        "storage.sharding.replication_factor",
        "performance.async_processing",
        "monitoring.metrics_retention_days",
        "monitoring.alert_thresholds",
        "monitoring.health_check_interval_seconds",
        "database",
    }
    assert len(notices) == len(reported)
    assert all(f"(file {path}) has no effect: " in notice for notice in notices)
    assert not any("do-not-print" in notice for notice in notices)


def test_only_keys_that_somebody_gave_are_reported():
    assert load({"storage.sharding.replication_factor": 1, "storage.shards": 2}).notices == ()
    assert len(load(environ={"MEMSTORE_MONITORING__METRICS_RETENTION_DAYS": "30"}).notices) == 1
    two = Settings(storage=StorageSettings(sharding=ShardingSettings(replication_factor=2)))
    assert [notice.split(" ")[0] for notice in load(two).notices] == ["storage.sharding.replication_factor"]


def test_two_copies_need_a_volume_for_the_second():
    two = {"storage.sharding.replication_factor": 2, "storage.sharding.replica_volume": "/mnt/second"}
    assert load(two).notices == ()
    three = {**two, "storage.sharding.replication_factor": 3}
    assert len(load(three).notices) == 1
    assert "must be the absolute path" in refusal({"storage.sharding.replica_volume": "relative"})


def test_the_database_part_stands_beside_the_memory_system_only():
    assert "unknown key" in refusal({"memory_system": {"database": {}}})
    assert "unknown key" in refusal({"storage": {"database": {}}})


# --- profiles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_loads_without_notices(profile):
    loaded = load(os.path.join(CONFIG_DIRECTORY, f"{profile}.toml"))
    assert loaded.notices == ()
    assert loaded.settings != Settings()


def profile_lines(profile):
    """(dotted key, value, stated default, whether it is switched off) of every line that sets a key."""
    section = ""
    with open(os.path.join(CONFIG_DIRECTORY, f"{profile}.toml"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("["):
                section = line.strip().strip("[]")
            elif match := re.match(r"(# )?([a-z_]+) = (.+?) +# default (.+?): \S", line):
                off, name, value, default = match.groups()
                parsed = tomllib.loads(f"value = {value}\ndefault = {default}\n")
                yield f"{section}.{name}", parsed["value"], parsed["default"], bool(off)
            else:
                assert re.fullmatch(r"(#.*)?\n", line), f"a key without a stated default: {line}"
                assert not re.match(r"# *[a-z_]+ *=", line), f"a key without a stated default: {line}"


PATHS = ("storage.volumes", "storage.lifecycle.archive_volume", "storage.sharding.replica_volume")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_key_of_a_profile_is_known_and_its_stated_default_is_right(profile):
    lines = list(profile_lines(profile))
    assert lines
    for key, value, default, off in lines:
        assert key in DEFAULTS, key
        assert default == DEFAULTS[key], key
        if off and key not in PATHS:
            assert value == default, f"{key}: a line that is switched off shows the default"
        if not off:
            assert value != default, f"{key}: a line that is on departs from the default"


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_valid_with_every_line_switched_on(profile):
    given = {key: value for key, value, _, _ in profile_lines(profile)}
    assert load(given).notices == ()


def test_the_small_profile_shows_every_key_that_has_an_effect():
    shown = {key for key, *_ in profile_lines("small")}
    without_effect = {notice.split(" ")[0] for notice in load(PLATFORM).notices}
    without_effect.discard("storage.sharding.replication_factor")  # which has one beside a replica_volume
    assert shown == DEFAULTS.keys() - without_effect


def test_profiles_grow_from_small_to_large():
    small, medium, large = (load(os.path.join(CONFIG_DIRECTORY, f"{name}.toml")).settings for name in PROFILES)
    assert [s.storage.shards for s in (small, medium, large)] == [1, 8, 64]
    memory = [s.storage.caching.recent_memories_mb for s in (small, medium, large)]
    assert memory == sorted(memory)


# --- cost and shape ---------------------------------------------------------------------------


def test_loading_imports_no_parser_that_it_does_not_need():
    code = (
        "import sys; from memstore.config_load import load_settings; load_settings(environ={}, user_file=None);"
        "sys.exit(any(name in sys.modules for name in ('tomllib', 'yaml')))"
    )
    root = os.path.join(os.path.dirname(__file__), os.pardir)
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0


def test_every_section_refuses_unknown_fields():
    names = {"storage", "writing", "merging", "scheduling", "backup", "reading", "search", "performance", "monitoring"}
    assert set(sections()[""]) == names
    for section in filter(None, sections()):
        nested = {"surprise": 1}
        for name in reversed(section.split(".")):
            nested = {name: nested}
        with pytest.raises(msgspec.ValidationError, match="surprise"):
            msgspec.convert(nested, Settings)
