# tests/explore/README.md
EXPLORE = CC='$(or $(filter gcc clang,$(notdir $(CC))),gcc)' BUILD='$(BUILD)' T='$(T)' JOBS='$(JOBS)' BACKENDS='$(BACKENDS)' MINUTES='$(or $(MINUTES),5)' FULL='$(FULL)'

.PHONY: explore soak replay mutants coverage figures
explore: headers  ## every schedule of the scenarios, on from the last run [T=names, a regular expression] [MINUTES=5] [FULL=1] [SECS=n] [SCALE=1] [BACKENDS=all] [JOBS=n]
	@$(EXPLORE) sh tests/explore/explore.sh

soak: headers  ## fresh schedules of the scenarios until one fails [SECS=3600] [SEED=n] [T=names]
	@$(EXPLORE) sh tests/explore/explore.sh --soak

mutants: headers $(BUILD)/amalgamate  ## small mistakes in the sources: who notices? [F='lock.h queue'] [SAMPLE=50] [SEED=1] [SECS=n] [HARD=1] [JOBS=n]
	@$(EXPLORE) F='$(F)' M='$(M)' sh tests/explore/mutants/mutants.sh

coverage: headers  ## branches of patterns/src that no test and no scenario takes [T=name] [BACKENDS=futex] [WHAT=tests] [ACCEPT=1] [JOBS=n]
	@CC='$(or $(filter gcc,$(notdir $(CC))),gcc)' BUILD='$(BUILD)' T='$(T)' JOBS='$(JOBS)' BACKENDS='$(BACKENDS)' WHAT='$(WHAT)' ACCEPT='$(ACCEPT)' sh tests/explore/coverage/coverage.sh

figures:  ## write the figures of README and docs from the last bench, explore, mutants and coverage
	@BUILD='$(BUILD)' sh tests/figures.sh

replay: headers  ## one schedule again: ID=r1.38 T=scenario [BACKEND=futex] [ARGS='--spurious']
	@$(EXPLORE) sh tests/explore/explore.sh --replay '$(or $(BACKEND),futex)' '$(ID)' $(ARGS)
