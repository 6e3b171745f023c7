PYTHON ?= python3
BIN := .venv/bin
SNAKEFILES := Snakefile workflow

.PHONY: tables report predict test check format venv system

tables: venv # the experiment of config.yaml
	$(BIN)/snakemake results/tables.md
	@echo "The tables: $(CURDIR)/results/tables.md (as figures: results/tables.csv)"

report: venv # the same, and an HTML page
	$(BIN)/snakemake
	@echo "The report: $(CURDIR)/results/report.html"

predict: venv # masks, a table and a page from generated images and loose boxes, some of them bad
	@test -d results/example || $(BIN)/loosebox example results/example
	$(BIN)/snakemake --configfile experiments/predict.yaml -- results/collect/example/predict.html
	@echo "The page: $(CURDIR)/results/collect/example/predict.html (objects.csv, coco.json, labels.zarr beside it)"

test: check system # all checks and tests, in three processes: one runs the tests on SLURM, which mostly wait
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --max-worker-restart 0 --dist loadgroup --no-loadscope-reorder

system: # as root on Debian: installs SLURM, a browser and ImageJ; elsewhere their tests are skipped
	@if [ "$$(id -u)" = 0 ] && command -v apt-get && ! { command -v slurmctld && command -v munged && command -v chromium && test -e /usr/share/java/ij.jar; }; then \
		apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium munge slurm-wlm libij-java \
		|| echo "SLURM, Chromium and ImageJ cannot be installed here: their tests are skipped"; fi

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
