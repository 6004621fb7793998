.PHONY: slow
slow:  ## the tests on a machine that stands still now and then [T=name] [WAYS='stall quota stop'] [ROUNDS=1] [SEED=1]
	@$(MAKE) -s headers $(INSIDE_HEADERS)
	@$(MAKE) -s -k headers $(call SELECTED,$(TESTS))
	@CC='$(CC)' WAYS='$(WAYS)' ROUNDS='$(ROUNDS)' SEED='$(SEED)' bash tests/slow/slow.sh $(call SELECTED,$(TESTS))
