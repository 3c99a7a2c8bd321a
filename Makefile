# The ways into Octet. `make` alone says what there is.
#
# `make demo` and `make test` install what they need (tools/setup) and do everything else
# themselves.

SHELL := /bin/bash
CMAKE := cmake --log-level=WARNING
JOBS ?= $(shell nproc)
PYTHON := .venv/bin/python
FUZZ_SECONDS ?= 60
SUITES ?= torch-quantizer torch-int resnet50 mobilenet bert
FUZZERS := $(basename $(notdir $(wildcard fuzz/*_fuzz.cc)))

.PHONY: help build demo bench test check-all setup-build setup-test setup-check format clean \
        test-build asan-ubsan tsan clang portable fuzz
.DEFAULT_GOAL := help

help:
	@echo "make build      the release program: build/release/octet"
	@echo "make demo       install, build, and run the demonstration (under a minute once built)"
	@echo "make test       install, build, and run every test (at most 15 minutes on two cores)"
	@echo "make bench      install, build, and time the INT8 operators beside oneDNN"
	@echo "make check-all  the tests again: sanitizers, second compiler, portable kernels, fuzzers"
	@echo "make format     clang-format over our sources"
	@echo "make clean      remove build/"

setup-build:
	@tools/setup build
setup-test:
	@tools/setup test
setup-check:
	@tools/setup check

build: setup-build
	@$(CMAKE) --preset release
	@cmake --build build/release -j $(JOBS) --target octet

demo: build
	@build/release/octet demo --output-dir build/demo

# Operators beside oneDNN, verified first; other peers and whole networks: bench/peers/.
bench: build
	@set -e; for suite in $(SUITES); do echo "== $$suite"; build/release/octet bench suite $$suite; done

# The same folder as `build`, with the tests switched on: nothing is compiled twice.
test-build: setup-test
	@$(CMAKE) --preset test
	@cmake --build build/release -j $(JOBS)

test: test-build
	@$(PYTHON) tests/run.py --build build/release --jobs $(JOBS)

check-all: setup-check test asan-ubsan tsan clang portable fuzz
	@echo "check-all: every check passed"

asan-ubsan: setup-check
	@$(CMAKE) --preset asan-ubsan
	@cmake --build build/asan-ubsan -j $(JOBS)
	@$(PYTHON) tests/run.py --build build/asan-ubsan --jobs $(JOBS) --only unit --only bad_input

# What runs loops, what is run in them (of the kernels the tests with several threads: the others
# would take half an hour), and what several threads may call.
tsan: setup-check
	@$(CMAKE) --preset tsan
	@cmake --build build/tsan -j $(JOBS) --target octet_base_tests octet_kernels_tests \
	  octet_runtime_tests
	@set -e; for tests in 'base:*' 'kernels:*Threads*' 'runtime:*'; do \
	  echo "tsan: $$tests"; \
	  TSAN_OPTIONS="exitcode=99 suppressions=$(CURDIR)/tools/tsan.supp" \
	    build/tsan/octet_$${tests%%:*}_tests --gtest_brief=1 --gtest_filter="$${tests#*:}"; \
	done

clang: setup-check
	@$(CMAKE) --preset clang
	@cmake --build build/clang -j $(JOBS)
	@$(PYTHON) tests/run.py --build build/clang --jobs $(JOBS) --only unit

# The unit tests run every instruction set of this CPU side by side; here the whole road takes the
# portable one.
portable: test-build
	@OCTET_FORCE_ISA=portable $(PYTHON) tests/run.py --build build/release --jobs $(JOBS) \
	  --only unit --only road --only invariance

# fuzz/NAME_fuzz.cc starts from the committed corpus fuzz/corpus/NAME; what it finds stays in build/.
fuzz: setup-check
	@$(CMAKE) --preset fuzz
	@test -n "$(FUZZERS)" || { echo "there is no fuzz/*_fuzz.cc" >&2; exit 1; }
	@cmake --build build/fuzz -j $(JOBS) --target fuzzers
	@set -e; for fuzzer in $(FUZZERS); do \
	  found=build/fuzz/found/$$fuzzer; mkdir -p $$found; \
	  echo "$$fuzzer: $(FUZZ_SECONDS) s"; \
	  build/fuzz/$$fuzzer -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	    -artifact_prefix=build/fuzz/$$fuzzer- $$found fuzz/corpus/$${fuzzer%_fuzz}; \
	done

format: setup-test
	@tools/check_format.sh --fix

clean:
	@rm -rf build
