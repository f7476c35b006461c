# wsserver.h needs no build: copy it. This file builds the examples and runs the tests; "make help" lists the targets.

CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
PORT ?= 8080
FUZZ_SECONDS ?= 60
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

STD = -std=c11
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Wstrict-prototypes
THREADS = -pthread
COMPILE = $(CC) $(STD) $(WARNINGS)

# The library is compiled once for all tests, see tests/library.h; and once more for fuzzers that count its work. Tests
# that include it by themselves compile it themselves. Tests are built for speed of building unless CFLAGS is given, and with the sanitizers that work here;
# only the library and programs that run for long are optimized.
WHOLE = $(patsubst tests/%,%,$(basename $(shell grep -l '"../../wsserver.h"' tests/unit/*.c tests/e2e/*.c tests/sim/*.c)))
COUNTED = fuzz/frame fuzz/head fuzz/json fuzz/session fuzz/utf8
LONG = library.o work.o sim/interleavings unit/args unit/frame unit/http unit/json unit/session unit/utf8 sim/allocations sim/faults sim/pieces
LEVEL = -O0 -g1
$(LONG:%=build/test/%) $(LONG:%=build/race/%): LEVEL = -O1 -g1
TEST_CFLAGS = $(if $(filter file,$(origin CFLAGS)),$(LEVEL),$(CFLAGS))
ADDRESS = -fsanitize=address -fno-omit-frame-pointer
UNDEFINED = -fsanitize=undefined -fno-sanitize-recover=all
RACES = -fsanitize=thread
SANITIZE = $(ADDRESS) $(UNDEFINED)

EXAMPLES = $(patsubst examples/%.c,build/%,$(wildcard examples/*.c))
# The longest first, so that no one of them runs alone at the end.
THREADED = unit/session $(filter-out unit/session,$(patsubst tests/%.c,%,$(wildcard tests/unit/*.c tests/e2e/*.c)))
ALONE = $(patsubst tests/%.c,%,$(wildcard tests/sim/*.c tests/fuzz/*.c))
TESTS = sim/faults $(THREADED) $(filter-out sim/faults,$(ALONE))
SHARED = wsserver.h build/flags
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))
SUBMAKE = $(MAKE) --no-print-directory -k $(PARALLEL)

all: $(EXAMPLES) ## build the examples into build/ (this is what plain "make" does)

build/%: examples/%.c $(SHARED)
	$(COMPILE) -I. $(CFLAGS) $(LDFLAGS) $< -o $@ $(THREADS)

# Changes when the compiler or its flags do, so that everything is built again.
build/flags: FORCE
	@mkdir -p build
	@echo '$(CC) $(CFLAGS) $(LDFLAGS) $(SANITIZE)' > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

demo: build/chat ## run the chat server on PORT (8080); open the address that it prints
	@echo 'Open the address below in a browser. Lines typed here go to every page. Ctrl-C ends it.'
	@build/chat $(PORT)

# What tests see of the library, and the library with nothing private.
build/declared.h: wsserver.h tests/declare.awk
	@mkdir -p $(@D)
	@awk -f tests/declare.awk wsserver.h > $@
build/exported.h: wsserver.h tests/declare.awk
	@mkdir -p $(@D)
	@awk -v export=1 -f tests/declare.awk wsserver.h > $@

# BUILD: builds a test, or an object of the library, in build/test or build/race.
LINKED = $(filter-out $(WHOLE) $(COUNTED),$(TESTS))
CHECKS = $(if $(filter build/race/%,$@),$(RACES),$(SANITIZE))
BUILD = mkdir -p $(@D) && rm -f $@ && echo 'building $@' && $(COMPILE) -Ibuild $(TEST_CFLAGS) $(LDFLAGS) $(CHECKS) $< -o $@
TEST_HEADERS = $(wildcard tests/*.h tests/*/*.h) build/declared.h

build/test/%.o build/race/%.o: tests/%.c tests/library.h tests/request.h tests/fuzz/work.h build/exported.h $(SHARED)
	@$(BUILD) -c
$(WHOLE:%=build/test/%): build/test/%: tests/%.c $(TEST_HEADERS) $(SHARED)
	@$(BUILD) $(THREADS)
$(LINKED:%=build/test/%): build/test/%: tests/%.c build/test/library.o $(TEST_HEADERS)
	@$(BUILD) -DTEST_LINKED build/test/library.o $(THREADS)
$(COUNTED:%=build/test/%): build/test/%: tests/%.c build/test/work.o $(TEST_HEADERS)
	@$(BUILD) -DTEST_LINKED build/test/work.o $(THREADS)
$(WHOLE:%=build/race/%): build/race/%: tests/%.c $(TEST_HEADERS) $(SHARED)
	@$(BUILD) $(THREADS)
$(filter-out $(WHOLE:%=build/race/%),$(THREADED:%=build/race/%)): build/race/%: tests/%.c build/race/library.o $(TEST_HEADERS)
	@$(BUILD) -DTEST_LINKED build/race/library.o $(THREADS)

test-programs: $(TESTS:%=build/test/%)
race-programs: $(THREADED:%=build/race/%)

test: ## build and run all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	+@address=`sh tests/probe.sh '$(CC)' $(ADDRESS)`; \
	undefined=`sh tests/probe.sh '$(CC)' $(UNDEFINED)`; \
	$(SUBMAKE) test-programs SANITIZE="$$address $$undefined"; \
	JOBS="$(JOBS)" sh tests/run.sh $(TESTS:%=build/test/%)

tsan: build/flags ## build and run all tests under ThreadSanitizer
	@sh tests/probe.sh '$(CC)' $(RACES) > build/races; test -s build/races
	+@$(SUBMAKE) race-programs; \
	JOBS="$(JOBS)" sh tests/run.sh $(THREADED:%=build/race/%)

compile: ## compile the header alone and in every supported way, gcc and clang, C11 and C++17: no warning
	@CC='$(CC)' JOBS='$(JOBS)' sh tests/compile/run.sh

lint: ## check that code and documents agree, what each room knows, and which symbols are global
	@CC='$(CC)' sh tests/lint/run.sh

fuzz: ## run every fuzzer for FUZZ_SECONDS (60) under clang's engine
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' sh tests/fuzz/run.sh

coverage: ## which lines and branches of the header the tests reach: build/coverage.txt
	@JOBS='$(JOBS)' sh tests/coverage/run.sh

mutate: ## plant faults in the header, one at a time, and see whether the tests notice: build/mutate.txt
	@CC='$(CC)' JOBS='$(JOBS)' sh tests/mutate/run.sh

portability: ## build and test for other processors, under emulation, and against musl
	@JOBS='$(JOBS)' sh tests/portability/run.sh

peers: ## run real WebSocket clients, browsers and proxies against the examples
	@CC='$(CC)' sh tests/peers/run.sh

bench: ## measure side by side: BENCH_ROUNDS, BENCH_CASES, BENCH_SERVERS, BENCH_SECONDS; BEFORE=FOLDER: beside the wsserver.h in it
	@CC='$(CC)' python3 $(if $(BEFORE),tests/bench/versions.py '$(BEFORE)' cpu,tests/bench/run.py)

install: ## copy the header to DESTDIR/PREFIX/include (PREFIX is /usr/local)
	mkdir -p '$(DESTDIR)$(PREFIX)/include'
	cp wsserver.h '$(DESTDIR)$(PREFIX)/include/wsserver.h'
	chmod 644 '$(DESTDIR)$(PREFIX)/include/wsserver.h'

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-11s %s\n", $$1, $$2 }'
	@echo '  CC, CFLAGS, LDFLAGS, JOBS, PREFIX, DESTDIR, PORT may be set: make test CC=clang'

FORCE:
.PHONY: FORCE all demo test test-programs tsan race-programs compile lint fuzz coverage mutate portability peers bench install clean help
.DELETE_ON_ERROR:
