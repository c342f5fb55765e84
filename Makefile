# All tasks of this project. `make help` lists them; each CI job is one of them.
SHELL := /bin/bash
CARGO ?= cargo
RUN_ARGS ?=
# Builds the program $(2) of package $(1) without shared libraries, into $(RELEASED).
release = $(CARGO) rustc --release -p $(1) --bin $(2) -- -C target-feature=+crt-static
RELEASED = $${CARGO_TARGET_DIR:-target}/release
PAGES = $(CARGO) run --quiet -p pvh-config --features pages --example pages --
BENCH_ARGS ?=
export CARGO_TERM_COLOR ?= auto

.DEFAULT_GOAL := help
.PHONY: help run test test-kvm ci full build fmt lint deps picture deny doc no-std features lab lab-test lab-full loom guests conform conform-peers conform-table soak ends faults corpus fuzz fuzz-smoke fuzz-mutants mutants fuzz-cov setup release bench bench-smoke bench-peers bench-programs bench-build bench-report boot-timeline clean
.PHONY: public-api guest-images release-check release-verify semver man completions deb dist reproducible sbom
.PHONY: fuzz-campaign fuzz-repro public-api guest-images release-check release-verify semver man completions deb

help: ## list every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: release ## boot the built-in demo guest on /dev/kvm (RUN_ARGS= adds options)
	@$(RELEASED)/pvh-vmm run $(RUN_ARGS)

test: ## run all tests; those that need /dev/kvm run if it can be opened
	@scripts/test.sh

test-kvm: ## run only the tests that need /dev/kvm; fails if it cannot be opened
	@scripts/test.sh --kvm-only

ci: test lint deps deny doc no-std release-check fuzz-smoke bench-smoke lab-test lab ## run all that continuous integration runs (.ci/run calls this)

full: ci features loom soak ends faults reproducible deb lab-full ## run ci and the runs that are too long for it; docs/full-run.md records them

public-api: ## write the public items of each library into docs/public-api, where a diff shows what changed
	$(CARGO) run --quiet -p pvh-checks --bin public-api

guest-images: ## build the guest images into the package of pvh-conformance
	rm -rf crates/pvh-conformance/prebuilt
	$(CARGO) run --quiet -p pvh-conformance --example images -- crates/pvh-conformance/prebuilt
	$(CARGO) test --quiet -p pvh-conformance --test image a_build_in_another_folder

release-check: guest-images ## check what a release needs: packages, public items, a dry run in the order of publishing
	$(CARGO) run --quiet -p pvh-checks --bin check-packages
	$(CARGO) run --quiet -p pvh-checks --bin public-api -- --check
	$(CARGO) publish --workspace --dry-run --no-verify --allow-dirty --quiet

release-verify: guest-images ## the same dry run, and build every package from its own files
	$(CARGO) publish --workspace --dry-run --allow-dirty

semver: ## compare the public items with another commit by cargo-semver-checks (BASE=commit)
	@scripts/need.sh cargo-semver-checks "cargo install --locked cargo-semver-checks"
	cargo semver-checks --workspace --baseline-rev $(or $(BASE),main)

release: ## build target/release/pvh-vmm without shared libraries: it starts faster and uses less memory
	$(call release,pvh-vmm,pvh-vmm)

man: ## write the manual pages into target/man (OUT= another folder)
	$(PAGES) man $(or $(OUT),target/man)

completions: ## write the completions for bash, zsh and fish into target/completions (OUT= another folder)
	$(PAGES) completions $(or $(OUT),target/completions)

deb: release ## make a Debian package in target/deb, and check it by lintian (DEB_MAINTAINER="NAME <ADDRESS>")
	rm -rf target/deb
	@$(MAKE) --silent man OUT=target/deb/man >/dev/null
	@$(MAKE) --silent completions OUT=target/deb/completions >/dev/null
	scripts/deb.sh $(RELEASED)/pvh-vmm target/deb

dist: ## build the program that is given to others, with the same bytes in any folder, and its bill of materials, into target/dist/out (OUT=)
	@scripts/dist.sh $(or $(OUT),target/dist/out)/pvh-vmm
	@$(MAKE) --no-print-directory --silent sbom OUT=$(or $(OUT),target/dist/out)/pvh-vmm.cdx.json

reproducible: ## build the commit twice in two folders, and fail if the programs differ or name a folder of this machine
	@scripts/dist.sh --compare

sbom: ## write the bill of materials of pvh-vmm, CycloneDX 1.5 in JSON (OUT=target/pvh-vmm.cdx.json)
	@$(CARGO) run --quiet -p pvh-checks --bin sbom >$(or $(OUT),target/pvh-vmm.cdx.json)

build: ## build everything in the release profile
	$(CARGO) build --workspace --release
	$(call release,pvh-vmm,pvh-vmm)

fmt: ## format all code
	$(CARGO) fmt --all

lint: ## check formatting, clippy (warnings are errors), unsafe code and source file heads
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	scripts/check-unsafe.sh
	$(CARGO) run --quiet -p pvh-checks --bin check-sources

deps: ## compare the dependencies with the list and the picture in docs/architecture.md
	$(CARGO) run --quiet -p pvh-checks --bin check-deps

picture: ## draw docs/architecture.svg from the dependencies that cargo sees
	$(CARGO) run --quiet -p pvh-checks --bin draw-picture

deny: ## check licences, bans and sources of every dependency
	@scripts/need.sh cargo-deny "cargo install --locked cargo-deny"
	cargo deny --all-features check licenses bans sources

doc: ## build the documentation; warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features

no-std: ## link the no_std crates into a program without std
	$(CARGO) build --manifest-path tests/no-std/Cargo.toml --release

features: ## check every feature set of every crate
	@scripts/need.sh cargo-hack "cargo install --locked cargo-hack"
	cargo hack check --workspace --feature-powerset --no-dev-deps

lab-test: ## test the lab's scripts on canned logs
	lab/test

lab: ## boot each stock Debian kernel once in nested KVM hosts
	lab/run

lab-full: ## boot every kernel with every CPU count in nested KVM hosts
	lab/run --full

loom: ## test every interleaving of a few threads on the set of vCPUs, on the kick of one, and on a ring
	RUSTFLAGS="--cfg loom" $(CARGO) test -p pvh-vcpu -p pvh-kvm -p pvh-ring --test loom --release

guests: ## write the conformance guest for any PVH VMM, as ELF32 and ELF64, into target/guests (OUT= another folder)
	@$(CARGO) run --quiet -p pvh-conformance --bin write-guests -- $(or $(OUT),target/guests)
	@cd $(or $(OUT),target/guests) && sha256sum *.elf | tee SHA256SUMS

conform: release ## run the conformance guest on /dev/kvm and report differences from real Xen
	$(RELEASED)/pvh-vmm conform

conform-peers: release ## run the plain conformance guest on each VMM on PATH, keep the reports and write their table (P= names some)
	PATH="$$(realpath $(RELEASED)):$$PATH" $(CARGO) run --quiet -p pvh-conformance --bin conform-peers -- run $(P)
	$(MAKE) conform-table

conform-table: ## write the table of docs/conformance.md from the kept reports, and check docs/abi-coverage.md against them
	$(CARGO) run --quiet -p pvh-conformance --bin conform-peers -- table

soak: ## run 16 machines side by side, and see that what they hold stays flat (S=120 seconds); without S= also boot a guest 1000 times that takes its vCPUs up and down (BOOTS=, SEED=)
	SOAK_SECONDS=$(or $(S),120) $(CARGO) test --release -p pvh-vmm --test steady -- --ignored --nocapture
	$(if $(S),,SOAK_BOOTS=$${BOOTS:-1000} SOAK_SEED=$(SEED) $(CARGO) test --release -p pvh-vmm --test soak -- --ignored --nocapture)

ends: ## end a guest that attacks its hypervisor, by signal and by key, at 200 random moments (TRIES=)
	ENDS_TRIES=$${TRIES:-200} $(CARGO) test --release -p pvh-vmm --test attacks -- --ignored --nocapture

faults: release ## make each system call of a run fail in turn, by strace, and each thread be refused (the latter as root, with cgroups of version 1)
	@scripts/need.sh strace "apt-get install strace"
	INJECTED_VMM="$$(realpath $(RELEASED)/pvh-vmm)" $(CARGO) test -p pvh-vmm --test injected -- --ignored --nocapture
	$(CARGO) test -p pvh-vmm --test host_faults -- --ignored

corpus: ## write the seeds of the fuzz targets (KERNELS= names stock kernels whose notes are added to the corpus)
	$(CARGO) run --quiet -p pvh-oracles --bin corpus -- $(KERNELS)

fuzz: ## run one fuzz target: make fuzz T=notes S=60 (without T: list them)
	@$(if $(T),fuzz/run.sh fuzz $(T) $(or $(S),60),fuzz/run.sh list)

fuzz-smoke: ## run each fuzz target for three seconds from its corpus (S= other seconds)
	fuzz/run.sh smoke $(or $(S),3)

fuzz-campaign: ## run each fuzz target for 15 minutes, one per CPU at a time (S= seconds, J= jobs, T= targets)
	fuzz/run.sh campaign $(or $(S),900) $(or $(J),$(shell nproc)) $(T)

fuzz-repro: ## run an input again that made a target fail, and make it smaller: make fuzz-repro FILE=fuzz/crashes/TARGET/NAME
	@fuzz/run.sh repro "$(realpath $(FILE))"

fuzz-mutants: ## show that the fuzz targets find seeded faults, one patch at a time (M= names patches)
	fuzz/mutants.sh $(M)

mutants: ## mutate the pure crates and list changes that no test notices; about three hours on 2 CPUs (C= names crates, M= adds options)
	@scripts/need.sh cargo-mutants "cargo install --locked cargo-mutants"
	fuzz/code-mutants.sh "$(C)" $(M)

fuzz-cov: ## measure line coverage of the crates by replay of seeds and corpora
	fuzz/coverage.sh

bench: ## benchmark every stage beside its baselines and peers (BENCH_ARGS= goes to criterion)
	$(CARGO) bench -p pvh-bench -- $(BENCH_ARGS)

bench-smoke: ## run each bench once and check the budgets that are ratios
	$(CARGO) build --quiet -p pvh-vmm -p pvh-bench
	$(CARGO) test --quiet -p pvh-bench --benches
	$(CARGO) run --quiet -p pvh-bench --bin bench-smoke
	$(CARGO) bench --quiet -p pvh-bench --bench budgets

bench-peers: bench-programs ## boot the same guests in every VMM on PATH (RUNS=25, OUT=peers writes peers.json and peers.svg)
	$(if $(BEFORE),PVH_BENCH_BEFORE=$(BEFORE)) $(CARGO) run --release -p pvh-bench --bin bench-peers -- $(or $(RUNS),25) $(OUT)

bench-programs: release
	$(CARGO) build --release -p pvh-bench
	$(call release,pvh-bench,floor)

bench-build: ## build all that bench-report runs, also the variants with shared libraries
	$(CARGO) build --release -p pvh-vmm -p pvh-bench
	mkdir -p $(RELEASED)/shared && cp $(RELEASED)/pvh-vmm $(RELEASED)/floor $(RELEASED)/shared
	$(MAKE) bench-programs
	$(CARGO) bench --quiet -p pvh-bench --no-run

boot-timeline: bench-programs ## draw docs/boot-timeline.svg: the steps of a boot of the tiny guest
	$(CARGO) run --release --quiet -p pvh-bench --bin boot-timeline -- $(or $(OUT),docs/boot-timeline.svg)

bench-report: bench-build ## measure all numbers of docs/benchmarks.md and write them there; needs a quiet machine (PERCENT=5 for a trial, KERNEL= names a bzImage)
	$(if $(KERNEL),PVH_BENCH_KERNEL=$(KERNEL)) $(CARGO) run --release --quiet -p pvh-bench --bin bench-report -- $(or $(OUT),docs) $(or $(PERCENT),100)

setup: ## install what CI needs on a fresh Debian machine (as root)
	scripts/setup.sh

clean: ## remove everything that was built
	$(CARGO) clean
	rm -rf tests/no-std/target fuzz/target
