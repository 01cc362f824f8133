# Everything a user types. `make help` explains; `make reproduce-fig8` and `make test` need Python 3.11 to 3.13, make and git.

SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))))
BIN ?= .venv/bin
SCALE ?= smoke
DEVICES ?= 1
LAUNCHER ?= $(if $(filter 1,$(DEVICES)),cores,torchrun)
OVERRIDES ?=
ROOT ?= multirun
IMAGES ?=
MINUTES ?= 10

FIGURES := $(notdir $(wildcard conf/figure/*))
OWN := $(filter .venv/bin,$(BIN))
READY := $(if $(OWN),.venv/ready)
TESTING := $(if $(OWN),.venv/dev)
BENCHING := $(if $(OWN),.venv/bench)

# ROOT and OVERRIDES reach Hydra as typed: no sign in them means anything to the shell. OVERRIDES is split at spaces
# outside of quotes; those that draw reads too are given to it as well.
export ROOT OVERRIDES IMAGES
ROOTED = root="root='$${ROOT//\'/\\\'}'"
SPLIT = split="$$(printf %s "$$OVERRIDES" | xargs -r printf '%s\n' 2>/dev/null)" || { \
	echo "samgap: OVERRIDES has a quote without its end, got $$OVERRIDES" >&2; exit 1; }; words=(); shown=(); \
	[ -z "$$split" ] || mapfile -t words <<< "$$split"; \
	for word in "$${words[@]}"; do [[ $$word =~ ^(name|scale|root|draw|logger)[=.] ]] && shown+=("$$word"); \
	[[ $$word == debug=* ]] && { echo "samgap: OVERRIDES takes no debug, since its runs would replace those of the figure:" \
	"type python -m samgap.train -m figure=... $$word" >&2; exit 1; }; done
TOLD = told() { echo "$(BIN)/python -m $$*"; "$(BIN)/python" -m "$$@"; }

INSTALL := .venv/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable

# Several processes with several threads each crawl; a sweep gets its speed from several runs at a time.
export OMP_NUM_THREADS ?= 1

.PHONY: help env test lint bench check-gpu clean reproduce-all report evidence status gpu-evidence
.DEFAULT_GOAL := help

help: ## this list
	@echo "Usage: make TARGET [SCALE=smoke] [LAUNCHER=cores] [OVERRIDES=\"key=value ...\"]"
	@echo
	@awk -F ':.*## ' '/^[a-z%-]+:.*## /{printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  SCALE      smoke: minutes, bundled data (default); cpu: real data, about an hour a figure; paper: as published, needs GPUs"
	@echo "  LAUNCHER   cores: a run on every core (default); basic: one after the other in one process; gpus: a run on every GPU"
	@echo "             of this machine or a Ray cluster; stack: a row of a grid as one program; slurm: a job a run; see docs/scaling.md"
	@echo "  DEVICES    of one run, with the launchers torchrun (default when above 1) and slurm"
	@echo "  OVERRIDES  Hydra overrides for the sweep, such as \"seed=0,1 logger=wandb\""
	@echo "  IMAGES     of gpu-evidence: a folder of train/<class>/ and test/<class>/"
	@echo "  ROOT       where results go and are drawn from (default multirun)"
	@echo "  BIN        folder of a python that has everything already, such as \$$CONDA_PREFIX/bin; no .venv is made then"
	@echo
	@echo "  Figures: $(FIGURES)"

_known-%:
	@test -e conf/figure/$*/$(SCALE).yaml -a "$(SCALE)" != base || { echo "samgap: no figure $* at scale $(SCALE); conf/figure/ has: $$(cd conf/figure && ls */*.yaml | grep -v base | sed 's/.yaml//' | xargs)" >&2; exit 1; }

reproduce-%: _known-% $(READY) ## sweep and draw one figure: make reproduce-fig8
	@$(ROOTED); $(SPLIT); $(TOLD); \
	told samgap.train -m figure=$*/$(SCALE) hydra/launcher=$(LAUNCHER) "$$root" \
		$(if $(filter-out 1,$(DEVICES)),trainer.devices=$(DEVICES)) "$${words[@]}" && \
	if [[ " $${words[*]} " == *" hydra.sweeper.dry_run=true "* ]]; then exit; fi && \
	told samgap.draw figure=$*/$(SCALE) "$$root" "$${shown[@]}"

# fig5 is fig4 by its other name. Not every figure has every scale.
AT_SCALE := $(filter-out fig5,$(patsubst conf/figure/%/$(SCALE).yaml,%,$(wildcard conf/figure/*/$(SCALE).yaml)))
reproduce-all: $(patsubst %,reproduce-%,$(or $(AT_SCALE),all-figures)) ## every figure at this scale, one after the other

report: $(READY) ## all figures, tables and verdicts as one page: multirun/report/index.html
	@$(ROOTED); "$(BIN)/python" -m samgap.report "$$root"

evidence: $(READY) ## what all studies say together: slopes with their mean, ways of asking, power: multirun/evidence
	@$(ROOTED); "$(BIN)/python" -m samgap.evidence "$$root"

status: $(READY) ## every sweep: done, running, failed, missing, time left
	@$(ROOTED); "$(BIN)/python" -m samgap.status "$$root"

gpu-evidence: $(READY) ## what minutes of one GPU bring, figure 8 on a folder of images and figure 7: IMAGES=folder MINUTES=10
	@$(ROOTED); $(SPLIT); $(TOLD); \
	told samgap.gpu_evidence --root "$$ROOT" --minutes $(MINUTES) $(if $(IMAGES),--images "$$IMAGES") "$${words[@]}" && \
	told samgap.draw figure=fig8/gpu "$$root" "$${shown[@]}" && \
	told samgap.draw figure=fig7/gpu "$$root" "$${shown[@]}"

bench: $(BENCHING) ## what a step and a sweep cost, against other code and our goals: 40 to 75 minutes on a quiet machine
	"$(BIN)/python" -m samgap.bench --root "$$ROOT"

check-gpu: $(READY) ## does samgap work on this GPU, and how fast? Under 5 minutes; without one it says so
	"$(BIN)/python" -m samgap.check_gpu --out "$$ROOT/check_gpu"

test: $(TESTING) ## all tests
	"$(BIN)/python" -m pytest -n 2 tests

lint: $(TESTING) ## style, format, types, layers
	"$(BIN)/ruff" check
	"$(BIN)/ruff" format --check
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

env: $(READY) ## the environment alone: .venv with pinned packages, those of tests and bench not among them

clean: ## remove the environment and caches, never results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: pyproject.toml requirements.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "samgap: $(if $(PYTHON),$(PYTHON) is not there,no python3.11, python3.12 or python3.13 on PATH); install one of them or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into .venv: about 6.5 GB, once. This takes some minutes."
	"$(PYTHON)" -m venv .venv
	$(INSTALL) .
	@touch $@

.venv/dev .venv/bench: .venv/ready
	@echo "Installing what make $(if $(filter %dev,$@),test and make lint use (0.7 GB),bench compares with (0.5 GB)) as well, once."
	$(INSTALL) '.[$(notdir $@)]'
	@touch $@
