# The front door. Meson and ninja do the work; see CONTRIBUTING.md.
BUILD ?= build
PREFIX ?=
PYTHON ?= python3

.PHONY: all check test soak demo bench deb install clean format deps

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	tools/bootstrap
	tools/install-deps build
	meson setup $(BUILD) $(if $(PREFIX),--prefix=$(abspath $(PREFIX)))

# Under five minutes, no servers: one build, unit, vector, stored fuzz inputs, few seeds, the rules.
check: deps
	$(PYTHON) tools/run-tests check

# Everything CI runs: both compilers, sanitizers, fuzzing, 10,000 seeds, the binary, the demo.
test: deps
	$(PYTHON) tools/run-tests test

# Long: mixed load under faults, many more seeds, longer fuzzing. PART=load|seeds|fuzz|tests|packages: only that.
PART ?=
soak: deps
	@$(if $(filter packages,$(or $(PART),packages)),tools/install-deps package)
	$(PYTHON) tools/run-tests soak $(PART)

demo:
	tools/demo

bench: deps
	$(PYTHON) tools/run-bench

# Debian packages, in build-deb.
deb:
	tools/bootstrap
	tools/install-deps build package
	tools/make-deb

# PREFIX=/opt/sinew (default /usr/local); DESTDIR=/tmp/image.
install: $(BUILD)/build.ninja
	$(if $(PREFIX),meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX)))
	ninja -C $(BUILD)
	meson install -C $(BUILD) --no-rebuild
	[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig

# Only files that a check would refuse are touched.
format: deps
	$(PYTHON) tools/check format --fix

deps:
	@tools/bootstrap
	@tools/install-deps build test

clean:
	rm -rf build build-*
