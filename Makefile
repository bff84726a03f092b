# make demo | test | test-slow | lint | types | bench | docs      (each creates .venv on first use)
PYTHON ?= python3
BIN := .venv/bin
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE ?= 1
# A test that hangs ends its process and shows where each thread stood, instead of stopping everything without a word.
HANGS := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

.PHONY: demo test test-slow lint types bench docs clean

.venv/runtime.done: requirements/runtime.txt requirements/demo.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/runtime.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements/demo.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/dev.done: .venv/runtime.done requirements/dev.txt requirements/oracles.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements/oracles.txt
	touch $@

.venv/docs.done: .venv/runtime.done requirements/docs.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	touch $@

demo: .venv/runtime.done
	$(BIN)/dubio demo --out runs/demo

test: .venv/dev.done
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --cov --cov-report=term --cov-fail-under=90 $(HANGS)

test-slow: .venv/dev.done .venv/docs.done
	$(BIN)/pytest -m slow

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.done
	$(BIN)/pyright

bench: .venv/runtime.done
	$(BIN)/python benchmarks/adue_grid.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/extract.py
	$(BIN)/python benchmarks/memory.py

docs: .venv/docs.done
	$(BIN)/python docs/build.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "the site: build/site/index.html"

clean:
	rm -rf .venv runs build dist
