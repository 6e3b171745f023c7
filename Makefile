PYTHON ?= python3
BIN := .venv/bin
SNAKEFILES := Snakefile workflow

.PHONY: tables report browser test check format venv

tables: venv # the experiment of config.yaml
	$(BIN)/snakemake results/tables.md
	@echo "The tables: $(CURDIR)/results/tables.md (as figures: results/tables.csv)"

report: venv # the same, and one page that shows it
	$(BIN)/snakemake
	@echo "The report: $(CURDIR)/results/report.html"

browser: # what the report's tests open it in; wants root, on Debian
	apt-get install --yes --no-install-recommends chromium

test: check # every check and every test
	$(BIN)/pytest

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
