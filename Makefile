# Everything a fresh machine needs: `make demo` and `make test` set up .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
export PYTHONHASHSEED := 0

.PHONY: demo test slow oldest test-oldest lint types wheel docs notebooks page bench hooks clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--group test --group lint --editable '.[hf,viz,notebooks]'
	touch $@

demo: .venv/ready
	$(BIN)/python -m pebble demo

# Two processes on two cores: more threads in each would wait for one another.
test slow notebooks: export OMP_NUM_THREADS := 1

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

slow: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# The oldest releases that pebble holds to, in an environment of their own. It is large (torch of
# PyPI brings CUDA's libraries, 5.4 GB), so all clones share one; its mark carries a sum of the pins.
PEBBLE_OLDEST ?= $(HOME)/.cache/pebble/oldest
OLDEST_READY := $(PEBBLE_OLDEST)/ready-$(firstword $(shell cksum < constraints-oldest.txt))
OLDEST_PIP := $(PEBBLE_OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt

$(OLDEST_READY):
	$(PYTHON) -m venv $(PEBBLE_OLDEST)
	$(OLDEST_PIP) --upgrade pip
	$(OLDEST_PIP) --only-deps '.[hf]'
	$(OLDEST_PIP) --group test
	rm -f $(PEBBLE_OLDEST)/ready-* && touch $@

oldest: $(OLDEST_READY)

# Capture, apply, validate and saved plans under the oldest releases, and plans both ways between
# them and those of .venv.
test-oldest: .venv/ready oldest
	$(BIN)/python -m tests.check_oldest $(PEBBLE_OLDEST)/bin/python

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy knows no package mapping: it sees pebble and pebble.solvers through links.
types: .venv/ready
	rm -rf .venv/types && mkdir -p .venv/types/pebble
	ln -s $(CURDIR)/pebble/* .venv/types/pebble/
	ln -s $(CURDIR)/solvers .venv/types/pebble/solvers
	cd .venv/types && ../bin/mypy --config-file $(CURDIR)/pyproject.toml -p pebble

wheel: .venv/ready
	$(BIN)/python -m tests.check_wheel

# The tools read the sources of the wheel and run none of them; pictures and tables are there.
.docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .docs
	.docs/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	.docs/bin/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

docs: .docs/ready
	rm -rf .docs/wheel
	.docs/bin/python -m pip install --quiet --no-deps --target .docs/wheel .
	NO_MKDOCS_2_WARNING=1 .docs/bin/mkdocs build --strict --quiet

# The page of a plan in a browser; without one that is said, and nothing is tested.
page: .venv/ready
	$(BIN)/python -m tests.check_page

notebooks: .venv/ready
	$(BIN)/python -m pytest --nbmake notebooks

bench: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/zoo.py
	$(BIN)/python benchmarks/peers.py

# ruff and mypy before every commit, from .venv: nothing is fetched but pre-commit itself.
hooks: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pre-commit
	$(BIN)/pre-commit install

clean:
	rm -rf .venv .docs build dist *.egg-info
