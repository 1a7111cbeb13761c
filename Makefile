# All commands of Sextant; `make` alone lists them. The environment .venv is created when it is first
# needed, and updated when pyproject.toml or requirements.lock changes. make turns the exit code of a
# failed command into 2.

.DEFAULT_GOAL := help
.NOTPARALLEL:

# An absolute path, because DVC runs `python` also in copies of the workspace.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The code of this checkout, even if .venv was installed for another one.
export PYTHONPATH := $(CURDIR)/src

# Packages are installed without compiling, so Python writes the bytecode at the first import. If this
# variable forbade that, every start would compile some thousand modules again.
unexport PYTHONDONTWRITEBYTECODE

# What DVC unpickles lies in a folder that its user alone may enter, see src/sextant/site_cache.py.
SITE = $(CURDIR)/.dvc/site
export DVC_SITE_CACHE_DIR := $(SITE)/cache

# No telemetry, and no pickle is loaded.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

##@ Start

help: ## | show this page
	@bold=; plain=; if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then bold=$$(printf '\033[1m') plain=$$(printf '\033[0m'); fi; \
	echo 'make TARGET [NAME=value ...]; a target first makes what it needs'; \
	awk -F ' ## | \\| ' -v bold="$$bold" -v plain="$$plain" \
	  '/^##@ / { group = substr($$0, 5); print "" } \
	   /^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); sub(/^\| /, "", $$2); \
	     printf "%s%-10s%s%-30s  %s\n", bold, group, plain, (NF > 2 ? $$1 " " $$2 : $$1), $$NF; group = "" }' Makefile

# The stamp is a checksum of contents, so that a fresh clone that links to a complete .venv does not
# install it again. Each variable is computed when it is first used, and not again.
EXTRAS = $(eval EXTRAS := $(or $(SEXTANT_EXTRAS),dev)$(shell sed -nE 's,^ *url = (s3|ssh)://.*,\,\1,p' .dvc/config 2>/dev/null | sort -u | tr -d '\n'))$(EXTRAS)
STAMP = $(eval STAMP := $(shell cat pyproject.toml requirements.lock | cksum) $(EXTRAS))$(STAMP)

setup: environment ## [TORCH_INDEX=https://download.pytorch.org/whl/cpu] [PYTHON=python3.12] | make .venv
	@echo 'ready: .venv ('"$$(python --version)"'); every make target uses it, `source .venv/bin/activate` activates it in your shell'

environment:
	@mkdir -p -m 700 "$(SITE)"
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
	  .venv/bin/python -m sextant.environment '$(EXTRAS)' $(if $(TORCH_INDEX),"$(TORCH_INDEX)") && \
	  echo "$(STAMP)" > .venv/.ready || { echo 'the environment is incomplete: correct what pip reports above,' \
	    'then run the same command again' >&2; exit 1; }; }

doctor: environment ## | what is missing or broken here, and how to repair it
	@python -m sextant doctor

##@ Pipeline

# Stages that do not need each other run side by side, JOBS at a time: as many as there are cores, unless
# JOBS says otherwise.
jobs = $${JOBS:+"jobs=$$JOBS"}

repro: environment ## [JOBS=2] | run everything that params.yaml lists, up to the champion
	@python -m sextant repro --whole $(jobs)

# `make train MODEL=ann` is `dvc repro train@ann` with numbered stages; without a name, the stage runs for
# every model or data set.
stage = python -m sextant repro $(1)$(if $(2),@$(2)) $(jobs)

pull: environment check ## [DATASET=churn] [JOBS=2] | fetch the raw files and check their size and sha256
	@$(call stage,pull,$(DATASET))

validate: environment check ## [DATASET=churn] [JOBS=2] | check the data against their expectations
	@$(call stage,validate,$(DATASET))

prepare: environment check ## [DATASET=churn] [JOBS=2] | repair the rows and split them into four parts
	@$(call stage,prepare,$(DATASET))

train: environment check ## [MODEL=ann] [JOBS=2] [SEEDS=5] | train, or resume an interrupted training
	@$(if $(SEEDS),python -m sextant seeds "model=$$MODEL" "seeds=$$SEEDS",$(call stage,train,$(MODEL)))

evaluate: environment check ## [MODEL=ann] [JOBS=2] | score the test part, beside the baselines
	@$(call stage,evaluate,$(MODEL))

report: environment check ## [JOBS=2] | write the report page, reports/index.html
	@$(call stage,report,)

##@ Use

leaderboard: environment ## | print one table of all models
	@python -m sextant leaderboard

predict: need-MODEL need-INPUT environment ## MODEL=ann INPUT=rows.csv [OUTPUT=answers.csv] [OPTIONS=top_k=10] | answer the rows
	@python -m sextant predict "model=$$MODEL" "input=$$INPUT" $${OUTPUT:+"output=$$OUTPUT"} $$OPTIONS

drift: need-MODEL need-INPUT environment ## MODEL=ann INPUT=rows.csv | compare rows, or the folder of LOG=, with training
	@python -m sextant drift "model=$$MODEL" "input=$$INPUT"

tune: need-MODEL environment ## MODEL=ann [TRIALS=40] [JOBS=2] [TIMEOUT=60] [WRITE=1] [OPTIONS=seed=1] | tune on val
	@python -m sextant tune "model=$$MODEL" $${TRIALS:+"trials=$$TRIALS"} $(jobs) $${TIMEOUT:+"timeout=$$TIMEOUT"} \
	  $${WRITE:+--write} $$OPTIONS

PORT = $(if $(filter serve,$(MAKECMDGOALS)),5001,5000)
# Only those on the command line count: some shells have a variable HOST.
given = $(if $(findstring command,$(origin $(1))),"$(2)=$$$(1)")
serve: need-MODEL environment ## MODEL=ann [HOST=0.0.0.0] [PORT=5001] [WORKERS=2] [LOG=folder] | serve it over HTTP
	@python -m sextant serve "model=$$MODEL" port=$(PORT) $(call given,HOST,host) $(call given,WORKERS,workers) \
	  $(call given,LOG,log)

ui: environment ## [PORT=5000] [AUTH=1] [HOST=0.0.0.0] | open MLflow's pages of runs and models
	@python -m sextant ui port=$(PORT) $${AUTH:+"auth=$$AUTH"} $(call given,HOST,host)

register: environment ## [MODEL=ann] | judge what is not judged here; restore a registry
	@python -m sextant register --write $${MODEL:+"model=$$MODEL"}

history: need-MODEL environment ## MODEL=ann | every change of the champion: when, by whom, why
	@python -m sextant history "model=$$MODEL"

promote: need-MODEL environment ## MODEL=ann [VERSION=3] [WHY=x] [DRY_RUN=1] | make a version champion
	@python -m sextant promote "model=$$MODEL" $${VERSION:+"version=$$VERSION"} $${WHY:+"why=$$WHY"} \
	  $${DRY_RUN:+--dry-run}

rollback: need-MODEL environment ## MODEL=ann [WHY=x] [FREEZE=1] [DRY_RUN=1] | restore the previous one
	@python -m sextant rollback "model=$$MODEL" $${WHY:+"why=$$WHY"} $${FREEZE:+--freeze} $${DRY_RUN:+--dry-run}

##@ New data

# Its further options (KIND=… KEY=… UNKNOWN=…) are listed by `python -m sextant new`. Only those on the
# command line count: some shells have a variable NAME.
NEW = FILE TARGET NAME KIND TASK KEY IGNORED NUMERIC CATEGORICAL POSITIVE DECIDE DELIMITER ENCODING QUOTING COMMENT \
  SKIP SKIP_AFTER FOOTER HEADER NAMES UNKNOWN DECIMAL THOUSANDS SHEET DATE DATE_FORMAT ONLY UNIT USER ITEM \
  RATING TITLE LIKE SIZE
new: need-FILE environment ## FILE=loans.csv [TARGET=repaid] | write the confs of a data set and a model
	@python -m sextant new $(foreach name,$(NEW),$(if $(findstring command,$(origin $(name))),"$(name)=$$$(name)"))

add: need-MODEL environment ## MODEL=digits | list a model of conf/shelf.yaml in params.yaml
	@python -m sextant add "model=$$MODEL"

remove: need-MODEL environment ## MODEL=digits | take a model, and data of it alone, out of params.yaml
	@python -m sextant remove "model=$$MODEL"

pin: need-DATASET environment ## DATASET=churn | write size and sha256 of its source into its conf
	@python -m sextant pin "dataset=$$DATASET"

retrain: environment ## [BRANCH=night/1] | pin, repro, register, push to the remote, write a summary
	@python -m sextant retrain $${BRANCH:+"branch=$$BRANCH"}

compare: need-BASE environment ## BASE=origin/main | what this branch changes, as Markdown
	@python -m sextant compare "base=$$BASE"

gc: environment ## [APPLY=1] | what nothing refers to: list it, or delete it
	@python -m sextant gc $${APPLY:+--apply}

merge-lock: environment ## [SIDE=theirs] | resolve a merge's conflicts in dvc.lock, run what differs
	@python -m sextant merge-lock $${SIDE:+"side=$$SIDE"}

remote: need-URL ## URL=/folder|s3://bucket/path|ssh://host/path | set the DVC remote
	@case "$$URL" in s3://*|ssh://*) ;; *:*) \
	  echo "URL=$$URL: expected a folder, s3://bucket/path or ssh://host/path" >&2; exit 2 ;; esac
	@$(MAKE) -s --no-print-directory environment
	@python -m dvc remote add -q --force --default storage "$$URL"
	@$(MAKE) -s --no-print-directory environment
	@echo 'remote set in .dvc/config; commit that file. `.venv/bin/dvc push` uploads, `.venv/bin/dvc pull` downloads'

##@ Develop

# Before a stage, what is on the shelf and not in params.yaml is not looked at.
check: environment ## [MODEL=ann [BUDGET=overfit]] [DATASET=churn] | check every conf, or that a net learns
	@python -m sextant check $(if $(filter check,$(MAKECMDGOALS)),,--listed) $${MODEL:+"model=$$MODEL"} \
	  $${DATASET:+"dataset=$$DATASET"} $(if $(filter check,$(MAKECMDGOALS)),$${BUDGET:+"budget=$$BUDGET"})

test: environment ## | run all tests
	@python -m pytest -q -n 2 --dist worksteal

test-fast: environment ## | run the tests without pipelines and long trainings
	@python -m pytest -q -m 'not slow' -n 2 --dist worksteal

fuzz: environment ## [CASES=2400] [CASE="raw series 7 odd_cell"] | try mutated files, confs and suites
	@SEXTANT_FUZZ=$${CASES:-2400} SEXTANT_FUZZ_CASE="$$CASE" python -m pytest -q tests/test_fuzz.py \
	  $(if $(CASE),-s,-n 2 --dist worksteal)

results: need-SEXTANT_MIRROR environment ## SEXTANT_MIRROR=/folder | results on the published protocols
	@for script in results/*.py; do python "$$script" || exit; done

bench: environment ## [ROW=loop] [AGAINST=commit] [OPTIONS=pairs=1] | measure a row; list the rows
	@if [ -f "bench/$$ROW.py" ]; then python "bench/$$ROW.py" $${AGAINST:+"against=$$AGAINST"} $$OPTIONS; \
	else for script in bench/[a-z]*.py; do \
	  printf 'make bench ROW=%-8s %s\n' "$$(basename "$$script" .py)" "$$(sed -n '1s/"""//gp' "$$script")"; done; \
	  [ -z "$$ROW" ] || { echo "there is no row $$ROW" >&2; exit 2; }; fi

promises: environment ## [ROW=kill] [N=20] [OPTIONS=seed=1] | break things for real and count what holds
	@[ -z "$$ROW" ] || [ -f "promises/$$ROW.py" ] || { echo "there is no row $$ROW; the rows are:" \
	  $(patsubst promises/%.py,%,$(wildcard promises/[a-z]*.py)) >&2; exit 2; }
	@for script in promises/$${ROW:-[a-z]*}.py; do \
	  PYTHONPATH="$(CURDIR)/src:$(CURDIR)/bench" python "$$script" $${N:+"n=$$N"} $$OPTIONS || failed=1; done; \
	  exit $${failed:-0}

# pip-audit reads the lock itself, so that it also sees what is not installed here.
audit: environment ## | look for vulnerabilities and risky code; list packages
	@python -m sextant.audit

lock: environment ## [UPGRADE=1] [TORCH_INDEX=...] | renew requirements.lock
	@python -m sextant.lock $${UPGRADE:+--upgrade} $(if $(TORCH_INDEX),"$(TORCH_INDEX)")

lint: environment ## | run ruff, mypy, actionlint, zizmor and hadolint
	@ruff check .
	@ruff format --check .
	@mypy
	@actionlint
	@zizmor --quiet --offline .github
	@hadolint Containerfile

format: environment ## | let ruff fix style and layout
	@ruff check --fix .
	@ruff format .

SCRATCH = .scratch .pytest_cache .mypy_cache .ruff_cache .hypothesis
clean: ## | remove .scratch and the caches of the tools, nothing else
	@rm -rf $(SCRATCH)
	@find src tests -name __pycache__ -prune -exec rm -rf {} +
	@echo 'removed: $(SCRATCH) and __pycache__'

# The usage of the targets on the command line, from their help.
use = $(strip make $(MAKECMDGOALS) $(foreach goal,$(MAKECMDGOALS),$(shell sed -n 's/^$(goal):.* ## \(.*\) | .*/\1/p' Makefile)))

# The first prerequisite of a target that needs NAME: one line and code 2 before anything runs.
need-%:
	$(if $($*),@:,$(error $* is missing. Usage: $(use)))

# An argument that no target on the command line takes is refused: with the lower-case name,
# `make train model=ann` would train every model.
NAMED = AUTH auth HOST host WORKERS workers LOG log UPGRADE upgrade N n TRIALS trials TIMEOUT timeout WRITE write JOBS jobs ROW row AGAINST against CASES cases CASE case MODEL model DATASET dataset INPUT input OUTPUT output OPTIONS options VERSION version PORT port URL url
NAMED += $(NEW) file target name kind task key unknown
blank := $() $()
# make puts a backslash before a blank in a value, such as that in the name of a file.
arguments := $(foreach override,$(subst \$(blank),_,$(MAKEOVERRIDES)),$(firstword $(subst =, ,$(override))))
further = $(if $(filter new,$(MAKECMDGOALS)),$(addsuffix =,$(NEW)))
# `new` has many, so that a misspelt one is refused as well.
checked = $(filter $(NAMED) $(if $(filter new,$(MAKECMDGOALS)),$(filter-out PYTHON TORCH_INDEX,$(arguments))),$(arguments))
$(if $(filter 0,$(MAKELEVEL)),$(foreach name,$(checked),$(if $(findstring $(name)=,$(use) $(further)),,$(error \
  $(name) is not an argument here. Usage: $(use)))))

.DEFAULT:
	$(error there is no target $@: `make help` lists them)

.PHONY: help setup environment doctor repro pull validate prepare train evaluate report leaderboard predict drift tune serve ui \
  register history promote rollback new add remove pin retrain compare gc merge-lock remote check test test-fast fuzz results bench promises \
  audit lock lint format clean
