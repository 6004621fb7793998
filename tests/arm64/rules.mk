# arm64/rules.mk: included by the Makefile.
.PHONY: arm64
arm64: headers  ## the test programs and the explorer's own tests on arm64, cross-compiled and emulated
	@BUILD=$(BUILD) sh tests/arm64/arm64.sh
