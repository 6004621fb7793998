# tests/explore/README.md
EXPLORE = CC='$(or $(filter gcc clang,$(notdir $(CC))),gcc)' BUILD='$(BUILD)' T='$(T)' JOBS='$(JOBS)' BACKENDS='$(BACKENDS)'

.PHONY: explore soak replay
explore: headers  ## every schedule of the scenarios [T=name] [SCALE=1] [SECS=n] [BACKENDS=all] [JOBS=n]
	@$(EXPLORE) sh tests/explore/explore.sh

soak: headers  ## fresh schedules of the scenarios until one fails [SECS=3600] [SEED=n] [T=name]
	@$(EXPLORE) sh tests/explore/explore.sh --soak

replay: headers  ## one schedule again: ID=r1.38 T=scenario [BACKEND=futex] [ARGS='--spurious']
	@$(EXPLORE) sh tests/explore/explore.sh --replay '$(or $(BACKEND),futex)' '$(ID)' $(ARGS)
