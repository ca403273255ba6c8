# SPDX-License-Identifier: GPL-2.0
#
# Each target is one script's job; this file only names them.

.DEFAULT_GOAL := help
.PHONY: help demo bench figures test series apply modules install uninstall kernel shell \
	deb status mutants kcsan coverage distro package gauntlet lint deps emulators clean inputs
MAKEFLAGS += --no-print-directory

export ALL KVER KSRC KIMG QEMU DESTDIR CONFIG HOURS

help:
	@echo 'kvm-lockless-mmu: the x86 KVM MMU without mmu_lock where a host is busy'
	@echo
	@echo '  make demo               stock and patched KVM, side by side, on an emulated host'
	@echo '                          MMU=shadow with guests that are shadowed, HOST=intel on an Intel host'
	@echo '  make bench              what of aging is gained by no lock, and what by asking once: table and chart'
	@echo '  make figures            the tables of bench/RESULTS.md against those of the last demo and bench'
	@echo '  make test               lint, KUnit, selftests, a real guest, mutants'
	@echo '                          T="age*" runs just those of tests/vm/tests.cfg; ALL=1 also what'
	@echo '                          passed before and has not changed'
	@echo '  make series             out/6.12/*.patch and out/6.12.mbox, for git am'
	@echo '  make apply TREE=DIR     git am onto a kernel tree'
	@echo '  make modules            kvm.ko, kvm-amd.ko, kvm-intel.ko in build/modules/patched'
	@echo '  make deb                out/kvm-lockless-mmu-dkms_*.deb: modules for each kernel, with DKMS'
	@echo '  make status             which KVM is loaded here, and what it counted; JSON=1'
	@echo '  make install            them into updates/ of the kernel; make uninstall takes them out'
	@echo '  make kernel             a bootable kernel, CONFIG=plain, debug, kcsan, coverage or i386'
	@echo '  make shell              a shell in the emulated host, KERNEL=stock or a CONFIG'
	@echo '  make mutants            the naive versions, and the test that catches each (MUTANTS=NAME)'
	@echo '  make gauntlet           what is too long for make test; PART=test, upstream, kcsan, coverage,'
	@echo '                          i386, soak (HOURS=0.25), demo, bench, distro or package: just that'
	@echo '  make kcsan              the suites and the stress tests on a kernel with KCSAN'
	@echo '  make coverage           what the tests reach of the series, and what they do not'
	@echo '  make distro             modules for every 6.12.y that Debian serves, each built and run'
	@echo '                          in throw-away roots (root); DISTRO=12 or 13, by default both'
	@echo '  make package            the life of what make deb makes, by apt in such roots; likewise'
	@echo '  make lint               the series: checkpatch, sparse, W=1, every commit builds'
	@echo '  make deps               the Debian packages that all this calls (root)'
	@echo '  make clean              remove build/ and out/'
	@echo
	@echo '  KVER=  a kernel release other than the newest that apt serves'
	@echo '  KSRC=  a kernel source tree or tarball, where apt has none'
	@echo '  KIMG=  a kernel image, with its modules in /lib/modules, likewise'
	@echo '  QEMU=  a qemu-system-x86_64 of 8.1 or newer, where there is none'

# Refuses a KVER= that the series is not for, before packages are installed.
known-kver = [ -z '$(KVER)' ] || scripts/source release > /dev/null

deps:
	@$(known-kver)
	@scripts/deps

emulators: deps
	@scripts/qemu

series: deps
	@scripts/assemble
	@echo "out/6.12.mbox: $$(grep -c '^Subject:' out/6.12.mbox) patches"

apply:
	@scripts/apply --check '$(TREE)'
	@$(MAKE) deps
	@scripts/apply '$(TREE)'

modules: deps
	@scripts/modules

deb:
	@$(known-kver)
	@scripts/deps deb
	@scripts/deb

# Its exit status says whether it is the series' KVM, which is no error of make's.
status:
	@mkdir -p build
	@$(MAKE) -s -C tools/kvm OUTPUT=$(CURDIR)/build/
	@build/kvm-lockless-mmu status $(if $(JSON),--json) || [ $$? = 1 ]

install uninstall:
	@scripts/install $@

kernel:
	@scripts/kernel --check
	@$(MAKE) deps
	@scripts/kernel

lint: deps
	@scripts/lint

# Some shells set HOST to the name of the machine.
demo-of = '$(if $(findstring command,$(origin HOST)),$(HOST))' '$(MMU)'
demo:
	@bench/demo --check $(demo-of)
	@$(MAKE) emulators
	@bench/demo $(demo-of)

bench: emulators
	@bench/bench

# The counts of bench/RESULTS.md against a run's.
figures:
	@bench/figures

shell:
	@[ '$(or $(KERNEL),stock)' = stock ] || CONFIG='$(KERNEL)' scripts/kernel --check KERNEL
	@$(MAKE) emulators
	@scripts/modules
	@[ '$(or $(KERNEL),stock)' = stock ] || CONFIG='$(KERNEL)' scripts/kernel
	@scripts/selftests
	@tests/vm/run --shell --kernel $(or $(KERNEL),stock)

mutants:
	@tests/mutants/run --check $(MUTANTS)
	@$(MAKE) inputs
	@tests/mutants/run $(MUTANTS)

gauntlet:
	@tests/gauntlet --check $(PART)
	@$(MAKE) emulators
	@tests/gauntlet $(PART)

kcsan coverage:
	@$(MAKE) gauntlet PART=$@

distro package:
	@tests/$@ --check $(DISTRO)
	@$(MAKE) deps
	@tests/$@ $(DISTRO)

# What the emulated hosts boot and run.
inputs: emulators
	@scripts/modules
	@CONFIG=debug scripts/kernel
	@scripts/selftests

test:
	@tests/vm/known $(foreach t,$(T),'$(t)')
ifdef T
	@$(MAKE) inputs
	@tests/vm/run $(foreach t,$(T),'$(t)')
else
	@$(MAKE) emulators
	@tests/all
endif

clean:
	@scripts/source removable
	@echo '  CLEAN	build and out (a minute, if roots are in there)'
	@rm -rf build out
