# tests/explore/README.md
EXPLORE = CC='$(or $(filter gcc clang,$(notdir $(CC))),gcc)' BUILD='$(BUILD)' T='$(T)' JOBS='$(JOBS)' BACKENDS='$(BACKENDS)'

.PHONY: explore soak replay mutants
explore: headers  ## every schedule of the scenarios [T=name] [SCALE=1] [SECS=n] [BACKENDS=all] [JOBS=n]
	@$(EXPLORE) sh tests/explore/explore.sh

soak: headers  ## fresh schedules of the scenarios until one fails [SECS=3600] [SEED=n] [T=name]
	@$(EXPLORE) sh tests/explore/explore.sh --soak

mutants: headers $(BUILD)/amalgamate  ## small mistakes in the sources: who notices? [F=engine/lock.h] [SAMPLE=50] [SEED=1] [HARD=1] [JOBS=n]
	@$(EXPLORE) F='$(F)' M='$(M)' sh tests/explore/mutants/mutants.sh

replay: headers  ## one schedule again: ID=r1.38 T=scenario [BACKEND=futex] [ARGS='--spurious']
	@$(EXPLORE) sh tests/explore/explore.sh --replay '$(or $(BACKEND),futex)' '$(ID)' $(ARGS)
