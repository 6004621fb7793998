# tests/explore/README.md
.PHONY: explore explore-program
explore: headers  ## every schedule of the scenarios [T=name] [SCALE=1] [SECS=6] [SEED=1] [JOBS=n]
	@CC='$(or $(filter gcc clang,$(notdir $(CC))),gcc)' BUILD='$(BUILD)' T='$(T)' JOBS='$(JOBS)' sh tests/explore/explore.sh

explore-program: headers  ## build PROGRAM=file.c to run under the explorer, as build/explore/program
	@CC='$(or $(filter gcc clang,$(notdir $(CC))),gcc)' EXPLORE_BUILD='$(BUILD)/explore' \
	    tests/explore/explore-cc -Ipatterns -o '$(BUILD)/explore/program' '$(PROGRAM)'
	@echo 'run it: $(BUILD)/explore/program --help'
