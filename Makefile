# `make` and `make help` say what there is.

.POSIX:
.PHONY: help build test race test-deps torture fuzz bench lint cross generate release-check snapshot clean

GO          = go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
KILLS       = 1000
FUZZTIME    = 10s
PAIRS       = 51x
UNRACED     = -race=false -d=checkptr=0
# Without those of cmd, tests wait for servers and disks, so more packages run at once than there are processors.
PACKAGES    = $$(($$(getconf _NPROCESSORS_ONLN) + 1))

help:
	@echo 'make build       bin/keyctl, one static program'
	@echo 'make test        all tests; as root it first installs what they need'
	@echo 'make test-deps   the programs that tests run for real: openssl, oathtool, strace, ...'
	@echo 'make race        what could race in all packages but cmd, with the race detector'
	@echo 'make torture     the tests that kill, cut and damage, many times over (KILLS=$(KILLS))'
	@echo 'make fuzz        every fuzz target for a while (FUZZTIME=$(FUZZTIME))'
	@echo 'make bench       keyctl beside bare programs, as ratios; then each package by itself'
	@echo 'make lint        gofmt, vet, staticcheck, and golangci-lint where it is installed'
	@echo 'make cross       builds for Linux, macOS and Windows, amd64 and arm64'
	@echo 'make snapshot    dist/: what a release of this commit would have (make release-check: only its configuration)'
	@echo 'make generate    docs/reference, docs/man, completions, docs/openapi.json and tables in docs, from the code'

build:
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/keyctl .
	@echo 'built bin/keyctl'

# A slow machine takes over the ten minutes that go test gives one package: those of cmd start thousands of programs.
test:
	@sh .ci/test-deps --auto
	@$(GO) test -timeout 20m ./...

test-deps:
	@sh .ci/test-deps

# The detector looks at keyctl and what it calls, but not into SQLite and the arithmetic of RSA, which would take most of its
# time. What one caller does at a time, again and again, cannot race and is left out.
race:
	@sh .ci/test-deps --auto
	@$(GO) test -race -gcflags='modernc.org/sqlite/lib=$(UNRACED)' -gcflags='modernc.org/libc=$(UNRACED)' \
		-gcflags='modernc.org/memory=$(UNRACED)' -gcflags='crypto/internal/fips140/bigmod=$(UNRACED)' \
		-short -p $(PACKAGES) -timeout 20m -skip '^Test(Local$$|Move|R46_|R47_.*Upgrade(Stopped|Cut|From)|R49_|PathsWith|TooLarge)' \
		$$($(GO) list ./... | grep -v -e '/cmd$$' -e /bench -e /packaging)

torture:
	@sh .ci/test-deps --auto
	@KEYCTL_TORTURE=$(KILLS) $(GO) test -count=1 -timeout=3h -v -run '^Test(R27_Cut|(R31|R32|R41|R46|R51)_)' ./cmd ./internal/httpapi ./internal/store ./internal/cluster

fuzz:
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
		done; \
	done

# Key pairs take 60 ms at one time and 300 ms at another, so what is measured beside them needs more runs.
bench:
	@$(GO) test -run '^$$' -bench '^BenchmarkRatio(Start|List|Page|Complete|Remote)$$' -benchtime $(PAIRS) ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkRatioCreate$$' -benchtime 151x ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkRatioBulk$$' -benchtime 2x -timeout 30m ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkRatio(Show|Issue)$$' -benchtime 21x ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkRatio(DataPlane|Audited)$$' -benchtime 7x ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkCreate$$' -benchtime 301x ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkR50$$' -benchtime 5x ./internal/bench
	@$(GO) test -run '^$$' -bench '^BenchmarkR3$$' -benchtime 20000x ./internal/bench
	@$(GO) test -run '^$$' -bench . $$($(GO) list ./... | grep -v /bench)

# Other systems are vetted with -trimpath because that is how the release built their packages a moment ago.
lint:
	@unformatted=$$(gofmt -l cmd internal main.go); \
		[ -z "$$unformatted" ] || { echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	@$(GO) vet ./...
	@GOOS=windows $(GO) vet -trimpath ./...
	@GOOS=darwin $(GO) vet -trimpath ./...
	@$(GO) run $(STATICCHECK) ./...
	@if command -v golangci-lint >/dev/null 2>&1; then golangci-lint run; else echo 'golangci-lint is not installed; the rest is clean'; fi

cross:
	@for os in linux darwin windows; do \
		for arch in amd64 arm64; do \
			CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -o /dev/null . || exit 1; \
			echo "$$os/$$arch builds"; \
		done; \
	done

generate:
	@$(GO) test ./cmd -count=1 -run '^TestGenerated' -update >/dev/null
	@echo 'wrote docs/reference, docs/man, completions, docs/openapi.json and the tables in docs'

release-check:
	@sh .ci/goreleaser check

# Not signed: signatures are entered into a public log, which is for releases.
snapshot:
	@skip=sign; command -v syft >/dev/null 2>&1 || skip=sign,sbom; \
		sh .ci/goreleaser release --snapshot --clean --skip=$$skip

clean:
	@rm -rf bin dist
