# One command each, the same for a newcomer and for CI. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo other-readers power-tools bench-tools test lint format bench bench-full bench-compare bench-page profile soak crash damage power-cut clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# pip older than 25.1 does not know --group, so it is brought up to date inside the environment first.
$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable '.[tool,yaml]' --group test --group lint
	@touch $(STAMP)

setup: $(STAMP)  ## make .venv and install memstore and its tools into it

demo: $(STAMP)  ## several processes write 50,000 realistic memories, which are packed into three tiers, read back and summed up
	@$(BIN)/memstore demo

# What people read the files with; the tests that need them skip, with the reason, where they cannot be had.
other-readers:
	@command -v zstdcat >/dev/null && command -v jq >/dev/null || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get install -y -qq zstd jq >/dev/null 2>&1; } || \
	echo "zstdcat or jq is missing and cannot be installed: the tests that need them are skipped"

# What the tests of real processes and real power cuts need; they skip, with the reason, where it cannot be had.
POWER_TOOLS := strace nbdkit nbdfuse eatmydata mkfs.ext4
power-tools:
	@for tool in $(POWER_TOOLS); do command -v $$tool >/dev/null || missing=1; done; test -z "$$missing" || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq >/dev/null 2>&1; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	strace nbdkit nbdkit-plugin-python libnbd-bin fuse3 eatmydata e2fsprogs >/dev/null 2>&1; } || \
	echo "$(POWER_TOOLS): one is missing and cannot be installed: the tests that need it are skipped"

# A test that hangs is stopped, and says where it stood; the longest takes a minute, and five where others use the processors.
TEST_SECONDS_MAX ?= 900

test: $(STAMP) other-readers power-tools  ## every test
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder --timeout=$(TEST_SECONDS_MAX) --durations=20

lint: $(STAMP)  ## ruff, mypy strict, and the floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# PostgreSQL's programs, without the server that Debian would start: the benchmark starts its own and stops it.
bench-tools: $(STAMP)
	@$(BIN)/python -m pip install --quiet --group bench
	@$(BIN)/python -m pip install --quiet --group bench-peers || \
	echo "some peers cannot be installed: the benchmarks report them as missing"
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq >/dev/null 2>&1; \
	export DEBIAN_FRONTEND=noninteractive; apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null 2>&1 && \
	sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf && \
	apt-get install -y -qq --no-install-recommends postgresql >/dev/null 2>&1; } || \
	echo "PostgreSQL is missing and cannot be installed: the benchmarks report it as missing"

# BENCH_DIR=/mnt/disk: where to write, if the temporary directory is not on the disk that is to be measured.
BENCHMARKS = mkdir -p .benchmarks && $(BIN)/python -m pytest benchmarks $(if $(BENCH_DIR),--bench-dir=$(BENCH_DIR))
NOW = $$(date -u +%Y%m%dT%H%M%SZ)

bench: $(STAMP) bench-tools  ## measure against floors and peers, ten minutes; bench bench-page: and write docs/benchmarks
	@$(BENCHMARKS) --size=bench --benchmark-json=.benchmarks/$(NOW)-bench.json

bench-full: $(STAMP) bench-tools  ## the same with everything, up to 10 million records: hours
	@$(BENCHMARKS) --size=full --benchmark-json=.benchmarks/$(NOW)-full.json

bench-compare: $(STAMP)  ## the last result against the one before: what got worse than the noise
	@$(BIN)/python -m benchmarks.compare

# RESULTS="A.json B.json": from A, and from B what A has not; what takes hours can so be measured by itself.
bench-page: $(STAMP)  ## docs/benchmarks.md and docs/benchmarks.html from the last result
	@$(BIN)/python -m benchmarks.page $(RESULTS)

profile: $(STAMP)  ## where the time of one workload goes, as a flame graph: make profile WORKLOAD=fill_batch
	@$(BIN)/python -m pip install --quiet --group bench
	@$(BIN)/python -m benchmarks.profile $(or $(WORKLOAD),$(error name one: make profile WORKLOAD=fill_batch))

soak: $(STAMP)  ## the crash tests for long: KILL_ROUNDS=5000 POWER_CUT_ROUNDS=50 YEAR_ROUNDS=20 make soak
	KILL_ROUNDS=$${KILL_ROUNDS:-2000} LIFECYCLE_KILL_ROUNDS=$${LIFECYCLE_KILL_ROUNDS:-300} \
	POWER_CUT_ROUNDS=$${POWER_CUT_ROUNDS:-20} YEAR_ROUNDS=$${YEAR_ROUNDS:-10} \
	$(BIN)/python -m pytest tests/crash tests/property tests/lifecycle/test_simulated_year.py -p no:randomly

crash: $(STAMP)  ## the state machine under crashes until so many states were looked at: make crash N=100000
	PYTHONHASHSEED=0 CRASH_STATES=$${N:-10000} $(BIN)/python -m pytest tests/crash/test_state_machine.py \
	-n $(PYTEST_WORKERS) --dist loadgroup -x

damage: $(STAMP)  ## damage files one at a time, so many times: make damage N=20000
	DAMAGES=$${N:-2000} $(BIN)/python -m pytest tests/crash/test_damage_sweep.py -n $(PYTEST_WORKERS)

power-cut: $(STAMP) power-tools  ## cut the power of an ext4 so many times, and look: make power-cut N=500 (root, FUSE, loop devices)
	POWER_CUTS=$${N:-100} $(BIN)/python -m pytest tests/power -rs

clean:  ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache build dist
