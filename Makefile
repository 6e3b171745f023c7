PYTHON ?= python3
BIN := .venv/bin
SNAKEFILES := Snakefile workflow

.PHONY: tables test check format venv slurm

tables: venv # the experiment of config.yaml
	$(BIN)/snakemake results/tables.md
	@echo "The tables: $(CURDIR)/results/tables.md (as figures: results/tables.csv)"

test: check slurm # every check and every test
	$(BIN)/pytest

slurm: # SLURM for tests/slurm, where it can be had: Debian, as root
	@if command -v apt-get && [ "$$(id -u)" = 0 ] && ! { command -v slurmctld && command -v munged; }; then \
		apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; fi

check: venv # formats, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt $(SNAKEFILES)

venv: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[test]"
	touch $@
