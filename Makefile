.DEFAULT_GOAL := help
.PHONY: help up check test reference lock

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up:  ## the platform on this machine, serving the demo (root)
	bin/lab up

check:  ## linters, unit and compile tests: no root, a minute on two cores
	bin/lab check

test:  ## every test, on lab hosts of their own (root)
	bin/lab test

reference:  ## make docs/reference/ anew, from the models and the docstrings
	bin/lab tool python -m saltern.site.reference
	bin/lab tool python -m saltern.site.functions

lock:  ## resolve the requirements anew (needs uv on PATH)
	for name in salt lab audit; do (cd requirements && uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --annotation-style line $$name.in -o $$name.txt); done
