# cross/rules.mk: included by the Makefile.
.PHONY: cross
cross: headers  ## headers and examples for macOS, BSDs, Windows, musl and other processors [ZIG=zig] [TARGETS='aarch64-macos ...']
	@BUILD=$(BUILD) ZIG='$(or $(ZIG),zig)' TARGETS='$(TARGETS)' sh tests/cross/cross.sh
