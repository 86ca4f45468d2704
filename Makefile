# The whole set-up is `make up` (run it) and `make test` (prove it).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UNIT := tests/unit tests/contract tests/test_architecture.py tests/test_tidy.py tests/test_docs.py
SYSTEM := tests $(foreach each,$(UNIT),--ignore $(each))

# Kept: the tests start a thousand processes, and each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up setup setup-run check format lint types imports unit system test drills drills-full bench bench-carrier bench-faults bench-queue bench-kernel bench-refill bench-retention bench-serve catalogue compatibility node-sdk twilio-cli segment-calculator test-sdks-on-hosts wheel peers clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Asked every time, for some thirty milliseconds: a folder that was moved, or whose Python is gone, is mended.
.PHONY: $(VENV)/run.stamp $(VENV)/dev.stamp
$(VENV)/run.stamp:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh run

$(VENV)/dev.stamp:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/setup.sh dev

setup-run: $(VENV)/run.stamp

setup: $(VENV)/dev.stamp  ## create .venv with everything the tests need

up: $(VENV)/run.stamp  ## run one host and the simulator here, in the foreground
	@exec $(BIN)/trunkline up $(ARGS)

format: $(VENV)/dev.stamp  ## format the code in place
	@$(BIN)/ruff format src tests bench scripts
	@$(BIN)/ruff check --fix-only -q src tests bench scripts

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff format --check src tests bench scripts
	@$(BIN)/ruff check src tests bench scripts

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp
	@$(BIN)/lint-imports

unit: $(VENV)/dev.stamp
	@TMPDIR="$$(sh scripts/ram.sh)" $(BIN)/pytest -q -n 2 $(UNIT)

check: lint types imports unit  ## format, lint, types, imports and unit tests

system: $(VENV)/dev.stamp
	@$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m 'not alone and not several' $(SYSTEM)
	@$(BIN)/pytest -q -n 2 --dist loadfile -m several $(SYSTEM)
	@$(BIN)/pytest -q -m alone $(SYSTEM)

test: unit system  ## every test: unit, contract, and the whole system with real parts

test-sdks-on-hosts: $(VENV)/dev.stamp  ## the SDKs' tests once more, each test through the next of three hosts
	@$(BIN)/pytest -q tests/sdk --hosts 3

# One small machine for all hosts: `HOSTS=1` where three are too many for it.
HOSTS ?= 3

drills: $(VENV)/dev.stamp  ## hurt hosts on purpose and count, the quick drills only
	@$(BIN)/trunkline drill --all --hosts $(HOSTS) --seed 1 $(ARGS)

drills-full: $(VENV)/dev.stamp  ## all drills with many seeds, for hours; goes on where it was stopped
	@mkdir -p build
	@$(BIN)/trunkline drill --all --hosts $(HOSTS) --seeds 3 --deep-seeds 10 --state build/drills-$(HOSTS).jsonl $(ARGS)

bench: $(VENV)/dev.stamp  ## measure one host, flushed, load and carrier included
	@$(BIN)/python -m bench.messages $(ARGS)

bench-carrier: $(VENV)/dev.stamp  ## measure what a message costs the simulated carrier and the link to it
	@$(BIN)/python -m bench.carrier $(ARGS)

bench-faults: $(VENV)/dev.stamp  ## kill, freeze or cut off one of three hosts, and measure what the API and the messages notice
	@$(BIN)/python -m bench.faults $(ARGS)

bench-queue: $(VENV)/dev.stamp  ## queue a million messages behind a closed carrier, then drain them
	@$(BIN)/python -m bench.queue $(ARGS)

bench-kernel: $(VENV)/dev.stamp  ## show what the kernel does under faults, and what a call costs
	@$(BIN)/python -m bench.kernel $(ARGS)

bench-refill: $(VENV)/dev.stamp  ## empty a host's disk under a million messages, and wait until it serves reads again
	@$(BIN)/python -m bench.refill $(ARGS)

bench-serve: $(VENV)/dev.stamp  ## measure what one create costs the process that serves it
	@$(BIN)/python -m bench.serve $(ARGS)

bench-retention: $(VENV)/dev.stamp  ## measure what the log engine takes for a million messages, and gives back
	@$(BIN)/python -m bench.retention $(ARGS)

catalogue: $(VENV)/dev.stamp  ## make the operation catalogue anew from the published documents
	@$(BIN)/python scripts/generate_catalogue.py

compatibility: $(VENV)/dev.stamp node-sdk twilio-cli  ## run the SDKs' tests, and write down which operations each of them exercises
	@$(BIN)/pytest -q tests/sdk --record-operations
	@$(BIN)/python scripts/generate_compatibility.py

peers:  ## install the system's programs that some tests and drills use (as root, with apt-get)
	@sh scripts/peers.sh

NODE_SDK := build/node-sdk
node-sdk:  ## fetch the Node SDK that tests/sdk/test_node.py runs, where there is a Node
	@if ! command -v npm >/dev/null; then \
		echo "node-sdk: there is no npm, so the tests with the Node SDK are skipped: make peers"; \
	elif ! cmp -s tests/sdk/node/package-lock.json $(NODE_SDK)/installed.json; then \
		mkdir -p $(NODE_SDK) && cp tests/sdk/node/package.json tests/sdk/node/package-lock.json $(NODE_SDK)/ && \
		npm --prefix $(NODE_SDK) ci --ignore-scripts --no-audit --no-fund && \
		cp $(NODE_SDK)/package-lock.json $(NODE_SDK)/installed.json; \
	fi

TWILIO_CLI := build/twilio-cli
twilio-cli:  ## fetch the command line that tests/sdk/test_run.py leads here, where there is a Node
	@if ! command -v npm >/dev/null; then \
		echo "twilio-cli: there is no npm, so the tests with twilio-cli are skipped: make peers"; \
	elif ! cmp -s tests/sdk/cli/package-lock.json $(TWILIO_CLI)/installed.json; then \
		mkdir -p $(TWILIO_CLI) && cp tests/sdk/cli/package.json tests/sdk/cli/package-lock.json $(TWILIO_CLI)/ && \
		npm --prefix $(TWILIO_CLI) ci --ignore-scripts --no-audit --no-fund && \
		cp $(TWILIO_CLI)/package-lock.json $(TWILIO_CLI)/installed.json; \
	fi

SEGMENTS := build/segment-calculator
segment-calculator:  ## fetch the calculator that tests/peers/test_segments.py counts against, where there is a Node
	@if ! command -v npm >/dev/null; then \
		echo "segment-calculator: there is no npm, so segments are not counted against Twilio's calculator: make peers"; \
	elif ! cmp -s tests/peers/segments/package-lock.json $(SEGMENTS)/installed.json; then \
		mkdir -p $(SEGMENTS) && cp tests/peers/segments/package.json tests/peers/segments/package-lock.json $(SEGMENTS)/ && \
		npm --prefix $(SEGMENTS) ci --ignore-scripts --no-audit --no-fund && \
		cp $(SEGMENTS)/package-lock.json $(SEGMENTS)/installed.json; \
	fi

wheel: $(VENV)/dev.stamp  ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --outdir dist .

clean:
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache
