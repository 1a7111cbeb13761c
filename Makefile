# Every command of Sextant. `make` alone explains them. The environment .venv is made when it is first needed and renewed
# when pyproject.toml or constraints.txt changes. A command that fails ends with code 2, whatever its own code was: make's rule.

.DEFAULT_GOAL := help
.NOTPARALLEL:

# DVC runs `python` and a relative path would fail in its copies of the workspace, hence CURDIR.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# This checkout's code, also where .venv is shared with another checkout.
export PYTHONPATH := $(CURDIR)/src

# The environment is made without bytecode, of which the first use writes what it needs. Where that is forbidden, every
# start would compile some thousand modules again.
unexport PYTHONDONTWRITEBYTECODE

# Nobody is told what is run here, and no pickle is loaded.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

##@ Start

help: ## | this page
	@bold=; plain=; if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then bold=$$(printf '\033[1m') plain=$$(printf '\033[0m'); fi; \
	echo 'make TARGET [NAME=value ...]: what a target needs is made first, and nothing is made twice'; \
	awk -F ' ## | \\| ' -v bold="$$bold" -v plain="$$plain" \
	  '/^##@ / { group = substr($$0, 5); print "" } \
	   /^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); sub(/^\| /, "", $$2); \
	     printf "%s%-10s%s%-30s  %s\n", bold, group, plain, (NF > 2 ? $$1 " " $$2 : $$1), $$NF; group = "" }' Makefile

# The stamp is made of content, not of times, so that a fresh clone with a ready .venv stays as it is.
EXTRAS = dev$(shell sed -nE 's,^ *url = (s3|ssh)://.*,\,\1,p' .dvc/config 2>/dev/null | sort -u | tr -d '\n')
STAMP = $(shell cat pyproject.toml constraints.txt | cksum) $(EXTRAS)

setup: environment ## [TORCH_INDEX=https://download.pytorch.org/whl/cpu] [PYTHON=python3.12] | make .venv
	@echo 'ready: .venv ('"$$(python --version)"'); every make target uses it, `source .venv/bin/activate` gives it to you'

environment:
	@[ "$$(cat .venv/.ready 2>/dev/null)" = "$(STAMP)" ] || { \
	  for python in $${PYTHON:-python3.11 python3.12 python3.13 python3}; do \
	    "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && break; python=; \
	  done; \
	  [ -n "$$python" ] || { echo "no Python 3.11, 3.12 or 3.13 found$${PYTHON:+ as $$PYTHON}:" \
	    "install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }; \
	  "$$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "$$python cannot make environments:" \
	    "install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }; \
	  echo 'making .venv: a minute or two, about 2 GB ...' >&2; \
	  { .venv/bin/python -c '' 2>/dev/null || "$$python" -m venv --clear .venv; } && \
	  .venv/bin/python -m pip install -qq --no-compile -c constraints.txt \
	    $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -e '.[$(EXTRAS)]' && \
	  echo "$(STAMP)" > .venv/.ready || { echo 'the environment is not whole: mend what pip says above,' \
	    'then run the same command again' >&2; exit 1; }; }

doctor: environment ## | what is missing or broken here, and how to mend it
	@python -m sextant doctor

##@ Pipeline

repro: environment check ## | all that params.yaml lists, from the data to the champion
	@python -m sextant repro
	@python -m sextant register --write
	@python -m sextant leaderboard

# `make train MODEL=ann` is `dvc repro train@ann` that numbers its stages; without a name, the stage of every model or data
# set.
stage = python -m sextant repro $(1)$(if $(2),@$(2))

pull: environment check ## [DATASET=churn] | fetch the raw files, held to their size and sha256
	@$(call stage,pull,$(DATASET))

validate: environment check ## [DATASET=churn] | hold the data to their expectations
	@$(call stage,validate,$(DATASET))

prepare: environment check ## [DATASET=churn] | repair the rows and split them in four parts
	@$(call stage,prepare,$(DATASET))

train: environment check ## [MODEL=ann] | train, or go on where training was interrupted
	@$(call stage,train,$(MODEL))

evaluate: environment check ## [MODEL=ann] | metrics on the test part, beside the baselines
	@$(call stage,evaluate,$(MODEL))

report: environment check ## | draw the page, reports/index.html
	@$(call stage,report,)

##@ Use

leaderboard: environment ## | one table of all models
	@python -m sextant leaderboard

predict: need-MODEL need-INPUT environment ## MODEL=ann INPUT=rows.csv [OUTPUT=answers.csv] [OPTIONS=top_k=10] | ask the champion
	@python -m sextant predict "model=$$MODEL" "input=$$INPUT" $${OUTPUT:+"output=$$OUTPUT"} $$OPTIONS

PORT = $(if $(filter serve,$(MAKECMDGOALS)),5001,5000)
serve: need-MODEL environment ## MODEL=ann [PORT=5001] | the champion as an HTTP service on this machine
	@python -m sextant serve "model=$$MODEL" port=$(PORT)

ui: environment ## [PORT=5000] | the MLflow pages: runs, curves, registered models
	@python -m sextant ui port=$(PORT)

##@ Registry

register: environment ## [MODEL=ann] | judge what is not judged here yet; mend a lost registry
	@python -m sextant register --write $${MODEL:+"model=$$MODEL"}

promote: need-MODEL need-VERSION environment ## MODEL=ann VERSION=3 | make a version champion by hand
	@python -m sextant promote "model=$$MODEL" "version=$$VERSION"

rollback: need-MODEL environment ## MODEL=ann | back to the champion before
	@python -m sextant rollback "model=$$MODEL"

##@ New data

pin: need-DATASET environment ## DATASET=churn | write into its conf what its source has now (size, sha256)
	@python -m sextant pin "dataset=$$DATASET"

retrain: environment ## | pin, repro, register, push where a remote is set, summary
	@python -m sextant retrain

remote: need-URL ## URL=/folder|s3://bucket/path|ssh://host/path | where a team's data and models lie
	@case "$$URL" in s3://*|ssh://*) ;; *:*) \
	  echo "URL=$$URL: expected a folder, s3://bucket/path or ssh://host/path" >&2; exit 2 ;; esac
	@$(MAKE) -s --no-print-directory environment
	@python -m dvc remote add -q --force --default storage "$$URL"
	@$(MAKE) -s --no-print-directory environment
	@echo 'remote set in .dvc/config, which is to be committed; then `.venv/bin/dvc push` sends, `.venv/bin/dvc pull` fetches'

##@ Develop

check: environment ## | hold params.yaml and every conf to its constructor
	@python -m sextant check $${MODEL:+"model=$$MODEL"} $${DATASET:+"dataset=$$DATASET"}

test: environment ## | all tests
	@python -m pytest -q -n 2 --dist worksteal

test-fast: environment ## | the tests without pipelines and long trainings
	@python -m pytest -q -m 'not slow' -n 2 --dist worksteal

results: need-SEXTANT_MIRROR environment ## SEXTANT_MIRROR=/folder | the figures of the published protocols
	@for script in results/*.py; do python "$$script" || exit; done

lint: environment ## | ruff and mypy
	@ruff check .
	@ruff format --check .
	@mypy

format: environment ## | let ruff mend style and layout
	@ruff check --fix .
	@ruff format .

SCRATCH = .scratch .pytest_cache .mypy_cache .ruff_cache .hypothesis
clean: ## | remove .scratch and the tools' caches, nothing else
	@rm -rf $(SCRATCH)
	@find src tests -name __pycache__ -prune -exec rm -rf {} +
	@echo 'removed: $(SCRATCH) and __pycache__'

# How the targets asked for are used, as their help says it.
use = $(strip make $(MAKECMDGOALS) $(foreach goal,$(MAKECMDGOALS),$(shell sed -n 's/^$(goal):.* ## \(.*\) | .*/\1/p' Makefile)))

# The first prerequisite of a target that cannot do without NAME: one line and code 2 before anything runs.
need-%:
	$(if $($*),@:,$(error $* is missing. Usage: $(use)))

# A name that no target asked for takes is refused: `make train model=ann` would train every model there is.
NAMES = MODEL model DATASET dataset INPUT input OUTPUT output OPTIONS options VERSION version PORT port URL url
given := $(foreach word,$(MAKEOVERRIDES),$(firstword $(subst =, ,$(word))))
$(if $(filter 0,$(MAKELEVEL)),$(foreach name,$(filter $(NAMES),$(given)),$(if $(findstring $(name)=,$(use)),,$(error \
  $(name) is not taken here. Usage: $(use)))))

.DEFAULT:
	$(error there is no target $@: `make help` lists them)

.PHONY: help setup environment doctor repro pull validate prepare train evaluate report leaderboard predict serve ui \
  register promote rollback pin retrain remote check test test-fast results lint format clean
