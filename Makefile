# make demo: set-up, then the main job on digits and a page.   make test: set-up, then every test.
PYTHON ?= python3
DEMO ?=
TESTS ?= -n 2 --dist worksteal

.PHONY: demo test test-everywhere test-lesser coverage bounds check peers cluster bench bench-gpu clean

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
	.venv/bin/python -m pytest $(TESTS)

# Every test as this processor computes, as one with AVX2 does, and as one with neither: they round differently.
test-everywhere: .venv/.ready
	.venv/bin/python -m pytest $(TESTS)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 .venv/bin/python -m pytest $(TESTS)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 .venv/bin/python -m pytest $(TESTS)

# What depends on rounding, as a processor without vector instructions of its own computes.
test-lesser: .venv/.ready
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 .venv/bin/python -m pytest $(TESTS) \
		tests/defences/test_losses.py tests/training/test_train.py tests/victims/test_victim.py tests/victims/test_frozen.py \
		tests/evaluation/test_judge.py tests/evaluation/test_panel.py

# How much of the package the tests run, line by line and branch by branch.
coverage: .venv/.ready
	.venv/bin/python -m pytest --cov=spikeproof --cov-branch --cov-report=term:skip-covered $(TESTS)

# The tests with the oldest versions that pyproject.toml allows (torch of the index, several GB).
.venv-bounds/.ready: requirements-bounds.txt pyproject.toml
	$(PYTHON) -m venv .venv-bounds
	.venv-bounds/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bounds.txt
	.venv-bounds/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

bounds: .venv-bounds/.ready
	.venv-bounds/bin/python -m pytest $(TESTS)

# Types and style.
check: .venv/.ready
	.venv/bin/ruff format --check src tests benchmarks
	.venv/bin/ruff check src tests benchmarks
	.venv/bin/mypy

# Against SpikingJelly, torchattacks, foolbox and ART, in an environment of their own (several GB, a few minutes).
peers: .venv-peers/.ready
	.venv-peers/bin/python -m pytest tests/peers

# A study on a real SLURM of two nodes and on a real Ray cluster, a node of which is lost. SLURM's daemons want root, and
# are installed if they are missing; minutes.
cluster: .venv-peers/.ready
	command -v slurmctld munged >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge; }
	SPIKEPROOF_CLUSTER=1 .venv-peers/bin/python -m pytest tests/cluster

# spikeproof and its peers on the same networks: benchmarks/results.json and docs/performance.md (some ten minutes).
bench: .venv-peers/.ready
	.venv-peers/bin/python -m benchmarks

# The same where torch sees a GPU: benchmarks/results-gpu.json and its table (minutes).
bench-gpu: .venv-peers/.ready
	.venv-peers/bin/python -m benchmarks --device cuda

clean:
	rm -rf .venv .venv-peers .venv-bounds build src/*.egg-info
