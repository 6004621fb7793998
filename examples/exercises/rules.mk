# examples/exercises/README.md
.PHONY: exercises
exercises: headers  ## build and check the exercises and their solutions [E=name]
	@CC='$(CC)' sh examples/exercises/check.sh $(if $(E),examples/exercises/$(E).c)
