# The front door. Meson and ninja do the work; see CONTRIBUTING.md.
BUILD ?= build
PREFIX ?= /usr/local
PYTHON ?= python3

.PHONY: all check test soak demo bench install clean format deps

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	tools/bootstrap
	tools/install-deps build
	meson setup $(BUILD) --prefix=$(PREFIX)

# Under five minutes, no servers: one build, unit, vector, stored fuzz inputs, few seeds, the rules.
check:
	@tools/bootstrap
	$(PYTHON) tools/run-tests check

# Everything CI runs: both compilers, sanitizers, fuzzing, 10,000 seeds, the binary, the demo.
test:
	@tools/bootstrap
	$(PYTHON) tools/run-tests test

# Long: more seeds, longer fuzzing.
soak:
	@tools/bootstrap
	$(PYTHON) tools/run-tests soak

demo:
	tools/demo

bench:
	$(PYTHON) tools/run-bench

install: all
	meson install -C $(BUILD) --no-rebuild

# Only files that a check would refuse are touched.
format:
	$(PYTHON) tools/check format --fix

deps:
	tools/install-deps build test demo

clean:
	rm -rf build build-*
