# SPDX-License-Identifier: GPL-2.0
#
# "make help" lists the targets; README.md explains.

# "make check" takes all bases, or the one that is asked for.
ifeq ($(origin BASE),undefined)
BASES ?= 7.2 7.3 6.12
BASE := 7.2
else
BASES ?= $(BASE)
endif

# What is not set is left to the scripts: an empty variable would be set.
$(foreach v,BASE BASES DEBUG_BASES THOROUGH LINUX BUILD CACHE JOBS V FORCE DEBUG PLAN OUT \
	REROLL SIGNOFF OFFLINE MINUTES VARIANT,$(if $(filter undefined,$(origin $v)),,$(eval export $v)))

help:
	@echo 'make run       build, boot, and reach the BARs of emulated devices: 9 minutes'
	@echo '               from nothing, 20 seconds when built; DEBUG=yes for lockdep, KASAN'
	@echo 'make check     test all bases, which share what takes long: 50 minutes from nothing;'
	@echo '               THOROUGH=yes tests all on each of them'
	@echo 'make soak      what takes BARs out of reach, again and again [MINUTES=60]'
	@echo 'make shell     the same VM with a prompt, devices bound'
	@echo 'make bench     what it costs, stock against patched: a table, CSV, a chart'
	@echo ''
	@echo 'make tree      lay out the base with the series on top: build/$(BASE)/tree'
	@echo 'make refresh   write the commits of the tree back as patches and files'
	@echo 'make series    the series as mails, signed off by you [OUT=directory]'
	@echo 'make lint      checkpatch, sparse, W=1, kernel-doc, shellcheck'
	@echo 'make clean     remove build/; downloads stay in the cache'
	@echo ''
	@echo 'BASE=$(BASE)       which kernel; there is: $(notdir $(wildcard bases/*))'
	@echo 'LINUX=path     a kernel tree of your own instead; it is not written to'
	@echo 'V=1            show the output of every stage'
	@echo 'OFFLINE=1      take the sources from the cache only'
	@echo 'DEBUG=yes or VARIANT=kcsan, no-export, ..., and PLAN=file  for run, shell and'
	@echo 'soak; FORCE=1 for tree and refresh;'
	@echo 'OUT, REROLL, SIGNOFF for series; BASES, DEBUG_BASES, THOROUGH for check;'
	@echo 'BUILD, CACHE, JOBS for all: scripts/*.sh -h explain'

run:
	@scripts/run.sh

check:
	@scripts/check.sh

shell:
	@scripts/run.sh shell

bench:
	@scripts/bench.sh

soak:
	@scripts/soak.sh

tree refresh series lint: %:
	@scripts/$*.sh $(if $(filter series,$*),$(OUT))

clean:
	rm -rf -- '$(or $(BUILD),build)'

.DEFAULT:
	@echo 'unknown target "$@"' >&2; $(MAKE) -s help >&2; exit 1

.PHONY: help run check bench soak shell tree refresh series lint clean
