# make demo: set-up, then the main job on digits and a page.   make test: set-up, then every test.
PYTHON ?= python3
DEMO ?=

.PHONY: demo test check peers bench bench-gpu clean

.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spikeproof needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

.venv-peers/.ready: requirements-peers.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-peers.txt
	# torchattacks pins an old requests, which it needs for downloads only.
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1 -e .
	touch $@

demo: .venv/.ready
	.venv/bin/spikeproof demo --out runs/demo $(DEMO)

test: .venv/.ready
	.venv/bin/python -m pytest

# Types and style.
check: .venv/.ready
	.venv/bin/ruff check src tests benchmarks
	.venv/bin/mypy

# Against SpikingJelly, torchattacks, foolbox and ART, in an environment of their own (several GB, a few minutes).
peers: .venv-peers/.ready
	.venv-peers/bin/python -m pytest tests/peers

# spikeproof and its peers on the same networks: benchmarks/results.json and docs/performance.md (some ten minutes).
bench: .venv-peers/.ready
	.venv-peers/bin/python -m benchmarks

# The same where torch sees a GPU: benchmarks/results-gpu.json and its table (minutes).
bench-gpu: .venv-peers/.ready
	.venv-peers/bin/python -m benchmarks --device cuda

clean:
	rm -rf .venv .venv-peers build src/*.egg-info
