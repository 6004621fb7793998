# windows/rules.mk: included by the Makefile.
.PHONY: windows
windows: headers  ## headers, examples and test programs for Windows, by MinGW-w64 and Wine [T=name]
	@BUILD=$(BUILD) T='$(T)' sh tests/windows/windows.sh
