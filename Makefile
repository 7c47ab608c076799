# One word each: run the app, test everything, or tidy the code. All of it in a virtual environment, .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint format
run: .venv/run
	$(BIN)/streamlit run streamlit_app.py

test: .venv/dev lint
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/dev: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@ .venv/run
