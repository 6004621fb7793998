# twill: `make help` lists the targets. Works with GNU make 3.81 and later.
#
# Everything is found by its name: a new tests/test_<name>.c, examples/<name>.c, examples/<dir>/<name>.c or
# patterns/src/<pattern>.h needs no line here. tests/<dir>/check.sh is a test program too, and a
# tests/<dir>/rules.mk or examples/<dir>/rules.mk may add targets of its own.

PREFIX  ?= /usr/local
BUILD   ?= build
OUT     ?= out
# The tests are built in the shortest time, unless somebody says how; `make backends` builds them as users do.
SAID    := $(CFLAGS)
CFLAGS  ?= -O2 -g
TEST_CFLAGS = $(or $(SAID),-O0)
WERROR  ?= -Werror
EXTRA   ?=
JOBS    ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes $(WERROR)
COMPILE  = $(CC) -std=c11 $(WARNINGS) $(SHARED) -Ipatterns -Itests -Ipatterns/src $(CPPFLAGS) $(EXTRA) $(CFLAGS) -pthread
LINK     = $(CC) $(EXTRA) $(CFLAGS) $(LDFLAGS) -pthread
LIBS     = $(LDLIBS) -lm

PATTERNS := $(wildcard patterns/src/*.h)
PARTS    := $(PATTERNS) $(wildcard patterns/src/*/*.h)
HEADERS  := $(patsubst patterns/twill_twill.h,patterns/twill.h,$(PATTERNS:patterns/src/%.h=patterns/twill_%.h))

TEST_SOURCES := $(wildcard tests/test_*.c tests/*/test_*.c)
TESTS         = $(TEST_SOURCES:%.c=$(BUILD)/%)
# Those that neither look inside nor replace a part have their code from one object, compiled once.
SHARING      := $(shell grep -L '^.define TWILL_IMPLEMENTATION' $$(grep -l '^.include "twill[_.]' $(TEST_SOURCES)))
# Those that look inside, but neither replace a part nor ask for its address, call the public functions there, and
# compile of the rest what they use themselves: tests/inside.awk.
OWN_CODE      = ^.define (TWILL_[^I]|thrd_|pthread_)|"virtual_time.h"|== twill__shutdown_handler
INSIDE       := $(shell grep -LE '$(OWN_CODE)' $$(grep -lE '^.define TWILL_IMPLEMENTATION|^.include .*/demo/' $(TEST_SOURCES)))
SHARED        = $(if $(filter $<,$(SHARING) $(INSIDE)),-DHARNESS_SHARED) \
                $(if $(filter $<,$(INSIDE)),-I$(BUILD)/inside -include tests/faults.h)
INSIDE_HEADERS := $(HEADERS:patterns/%=$(BUILD)/inside/%)
CHECKS       := $(wildcard tests/*/check.sh)

# In a folder of examples, a file with main() is a program and is linked with the other files beside it.
EXAMPLE_SOURCES := $(wildcard examples/*.c examples/*/*.c)
EXAMPLE_MAINS   := $(if $(EXAMPLE_SOURCES),$(shell sh tools/needs.sh --met $$(grep -l '^int main\b' $(EXAMPLE_SOURCES))))
EXAMPLES         = $(EXAMPLE_MAINS:%.c=$(BUILD)/%)
modules          = $(if $(findstring /,$1),$(filter-out $(BUILD)/examples/$1.o,$(patsubst %.c,$(BUILD)/%.o, \
                   $(filter-out $(EXAMPLE_MAINS),$(wildcard examples/$(dir $1)*.c)))))

# Without a -j of the caller, build on all processors. Tests are run one after the other all the same.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(JOBS)
endif
MAKEFLAGS += --no-print-directory

.PHONY: all
all: headers tests examples  ## build the headers, the tests, the examples and the demo

.PHONY: help
help:  ## list the targets
	@echo 'make TARGET [CC=gcc] [CFLAGS=...] [WERROR=] [BUILD=build] [JOBS=n]'
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
	    awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

# ---- headers ----

$(BUILD)/amalgamate: patterns/src/amalgamate.c
	@mkdir -p $(@D)
	@$(CC) -std=c11 $(WARNINGS) -O1 -o $@ $<

$(BUILD)/headers.stamp: $(BUILD)/amalgamate $(PARTS) LICENSE
	@$(BUILD)/amalgamate patterns/src patterns LICENSE $(PATTERNS)
	@touch $@

$(HEADERS): $(BUILD)/headers.stamp
	@test -f $@ || $(BUILD)/amalgamate patterns/src patterns LICENSE $(@:patterns/twill_%=%)

.PHONY: headers check-headers
headers: $(HEADERS)  ## write patterns/twill_*.h from patterns/src

check-headers: $(BUILD)/amalgamate  ## fail if a header in patterns/ is not what patterns/src gives
	@$(BUILD)/amalgamate --check patterns/src patterns LICENSE $(PATTERNS)
	@for header in $(filter-out $(HEADERS),$(wildcard patterns/twill*.h)); do \
	    echo "$$header: has no source in patterns/src: remove it"; exit 1; done

# ---- objects and programs ----

# gcc takes seconds to look for misleading indentation in a long file, and clang-format leaves none.
$(BUILD)/tests/%: WARNINGS += -Wno-misleading-indentation
$(BUILD)/tests/%: CFLAGS = $(TEST_CFLAGS)

# The command that compiled: objects of another one are stale.
$(BUILD)/tests/command $(BUILD)/examples/command: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','"'"',$(COMPILE))' | cmp -s - $@ || echo '$(subst ','"'"',$(COMPILE))' > $@

.PHONY: FORCE
FORCE:

# The program goes first: if this fails, an old one must not be run in its place.
$(BUILD)/tests/%.o: tests/%.c $(BUILD)/tests/command | $(HEADERS)
	@mkdir -p $(@D); rm -f $(@:.o=)
	@echo '  CC $<'
	@$(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/inside/%.h: patterns/%.h tests/inside.awk
	@mkdir -p $(@D)
	@awk -f tests/inside.awk $< > $@.part && mv $@.part $@

$(INSIDE:%.c=$(BUILD)/%.o): | $(INSIDE_HEADERS)

$(patsubst %.c,$(BUILD)/%,$(SHARING) $(INSIDE)): $(BUILD)/tests/twill.o
$(TESTS): %: %.o
	@$(LINK) -o $@ $^ $(LIBS)

$(BUILD)/examples/%.o: examples/%.c $(BUILD)/examples/command | $(HEADERS)
	@mkdir -p $(@D); rm -f $(@:.o=)
	@echo '  CC $<'
	@$(COMPILE) $(shell sh tools/needs.sh --cflags $<) -MMD -MP -c -o $@ $<

.SECONDEXPANSION:
$(EXAMPLES): $(BUILD)/examples/%: $(BUILD)/examples/%.o $$(call modules,$$*)
	@$(LINK) -o $@ $^ $(shell sh tools/needs.sh --libs $(patsubst $(BUILD)/%.o,%.c,$^)) $(LIBS)

.PRECIOUS: $(BUILD)/%.o
.PHONY: tests examples
tests: $(TESTS)
examples: $(EXAMPLES)  ## build the examples (those that miss a package are named and left out)
	@sh tools/needs.sh --missing $(EXAMPLE_SOURCES)

-include $(wildcard $(BUILD)/tests/*.d $(BUILD)/tests/*/*.d $(BUILD)/examples/*.d $(BUILD)/examples/*/*.d)

# ---- tests ----
# T=name: only the tests whose path contains it. ARGS='-r 10': for the test programs. A program that does not
# build is a failure like any other; without headers none is run, as it would be an old one. Each target adds its
# counts to the file TOTALS if that is set.

RUN       = CC='$(CC)' BUILD='$(BUILD)' MAKE='$(MAKE)' JOBS='$(JOBS)' FULL='$(FULL)' FLAGS='$(EXTRA) $(TEST_CFLAGS)' \
            sh tests/run.sh '$(BUILD)/logs'
SELECTED  = $(if $(T),$(foreach test,$1,$(if $(findstring $(T),$(test)),$(test))),$1)
VARIANTS  = futex pthread no-futex no-futex-pthread
SANITIZER = -fno-omit-frame-pointer -g

.PHONY: test run-programs asan tsan backends matrix
test:  ## run the suite [T=name] [ARGS='-r 10'] [FULL=1: each compiler, examples as they stand, all of the explorer's own]
	@$(MAKE) -s headers $(INSIDE_HEADERS)
	@$(MAKE) -s -k headers $(if $(strip $(call SELECTED,$(CHECKS))),$(BUILD)/tests/twill.o) $(call SELECTED,$(TESTS)) || true
	@TEST_ARGS='$(ARGS)' $(RUN) $(call SELECTED,$(CHECKS) $(TESTS))

# The test programs alone, as the variants below run them.
run-programs:
	@$(MAKE) -s headers $(INSIDE_HEADERS)
	@$(MAKE) -s -k headers $(call SELECTED,$(TESTS)) || true
	@TEST_ARGS='$(ARGS)' $(RUN) $(call SELECTED,$(TESTS))

asan:  ## the test programs under the address, leak and undefined-behaviour sanitizers
	@$(MAKE) run-programs BUILD=$(BUILD)/asan \
	    CFLAGS='$(SANITIZER) -O0 -fsanitize=address,undefined -fno-sanitize-recover=undefined'

tsan:  ## the test programs under the thread sanitizer
	@$(MAKE) run-programs BUILD=$(BUILD)/tsan CFLAGS='$(SANITIZER) -O1 -fsanitize=thread'

# The one of most users is optimised as they do it, the others less: that halves the time.
futex_flags            =
pthread_flags          = -DTWILL_USE_PTHREAD
no-futex_flags         = -DTWILL_NO_FUTEX
no-futex-pthread_flags = -DTWILL_NO_FUTEX -DTWILL_USE_PTHREAD

.PHONY: $(VARIANTS:%=backend-%)
$(VARIANTS:%=backend-%): BACKEND_CFLAGS = $(or $(SAID),-O1)
backend-futex: BACKEND_CFLAGS = $(CFLAGS)
$(VARIANTS:%=backend-%): backend-%:
	@echo "---- back end: $*"
	@$(MAKE) run-programs BUILD=$(BUILD)/$* EXTRA='$(EXTRA) $($*_flags)' CFLAGS='$(BACKEND_CFLAGS)'

backends:  ## the test programs on each of the four back ends
	@rm -f $(BUILD)/backends.totals; mkdir -p $(BUILD)
	@for variant in $(VARIANTS); do \
	    rm -f $(BUILD)/one.totals; \
	    TOTALS='$(BUILD)/one.totals' $(MAKE) backend-$$variant || \
	        test -f $(BUILD)/one.totals || echo 0 1 0 > $(BUILD)/one.totals; \
	    cat $(BUILD)/one.totals >> $(BUILD)/backends.totals; done; \
	cat $(BUILD)/backends.totals >> '$(or $(TOTALS),/dev/null)'; \
	sh tests/run.sh --sum $(BUILD)/backends.totals

FULL_CHECKS = $(filter-out tests/amalgamate/%,$(CHECKS))
matrix: FULL = 1
matrix: headers  ## headers x compilers x standards x levels x ways of linking, and what else has a FULL=1: in full
	@TEST_LIMIT=3600 GRID=1 $(RUN) $(call SELECTED,$(FULL_CHECKS))

# ---- demo, figures ----

.PHONY: demo bench sizes
demo: $(filter $(BUILD)/examples/demo/%,$(EXAMPLES))  ## run the demo [CORPUS=folder] [OUT=out] [RATE=MB/s] [FAULTS=1]
	@mkdir -p '$(OUT)'
	@RATE='$(RATE)' FAULTS='$(FAULTS)' $(BUILD)/examples/demo/crunch $(if $(CORPUS),--corpus '$(CORPUS)') --out '$(OUT)'

bench: headers  ## measure against peers [ROUNDS=7, or quick] [SECTION=regex]
	@CC='$(CC)' BUILD='$(BUILD)/bench' sh tests/bench/run.sh $(or $(ROUNDS),7) '$(SECTION)'

sizes: headers  ## lines, bytes of code and bytes an object of each header
	@CC='$(CC)' sh tests/sizes.sh $(HEADERS)

# ---- install ----

INSTALLED = $(DESTDIR)$(PREFIX)/include
PC_FILE   = $(DESTDIR)$(PREFIX)/share/pkgconfig/twill.pc

.PHONY: install uninstall
install: headers  ## copy the headers and twill.pc below DESTDIR and PREFIX
	mkdir -p '$(INSTALLED)' '$(DESTDIR)$(PREFIX)/share/pkgconfig'
	cp $(HEADERS) '$(INSTALLED)/'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e "s|@VERSION@|$$(sed -n \
	    's/^#define TWILL_VERSION_TEXT "\(.*\)".*/\1/p' patterns/src/base/version.h)|" \
	    twill.pc.in > '$(PC_FILE)'

uninstall:  ## remove what install copied
	cd '$(INSTALLED)' && rm -f $(notdir $(HEADERS))
	rm -f '$(PC_FILE)'

# ---- keeping order ----

.PHONY: format clean
format:  ## format the sources with clang-format (the generated headers follow from them)
	@command -v clang-format >/dev/null || { echo 'skipped: install clang-format'; exit 0; }; \
	clang-format -i $(PARTS) patterns/src/*.c $(wildcard tests/*.[ch] tests/*/*.[ch]) $(EXAMPLE_SOURCES)

clean:  ## remove all that was built
	rm -rf $(BUILD) $(OUT)

-include $(wildcard tests/*/rules.mk examples/*/rules.mk)
