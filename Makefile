# make demo: set-up, then the main job on digits and a page.   make test: set-up, then every test.
PYTHON ?= python3
DEMO ?=
TESTS ?= -n 2 --dist worksteal

.PHONY: demo test test-everywhere test-lesser coverage bounds check dist docs a11y board peers cluster bench bench-gpu clean

# What an import compiles is kept: tests start Python a hundred times.
test test-everywhere test-lesser coverage bounds peers cluster: export PYTHONDONTWRITEBYTECODE =

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
	.venv/bin/ruff format --check src tests benchmarks manual
	.venv/bin/ruff check src tests benchmarks manual
	.venv/bin/mypy

# What would be released: sdist and wheel in dist/, held against the files of the package, and tried alone.
dist: .venv/.ready
	.venv/bin/python .ci/dist.py

# The first entries of the board, from the networks of the demo: board/*.json, their inputs and weights, and the page.
board: .venv/.ready
	.venv/bin/spikeproof demo --out runs/demo $(DEMO)
	for cell in $$(ls -d runs/demo/cells/* | grep -v '\.'); do \
		.venv/bin/spikeproof entry $$cell --into board --weights --inputs floats --threads 1 --quiet; done
	.venv/bin/spikeproof board board

.venv-docs/.ready: requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

# The documentation as a site, build/site/index.html: it needs no server and no network. Not with -q, which makes MkDocs
# pass over what `strict` is there for.
docs: .venv/.ready .venv-docs/.ready
	.venv/bin/python -m manual build/docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict -f manual/mkdocs.yml
	.venv/bin/python -m manual.check build/site

# Pages in a browser, used as a reader uses them, wide and narrow, light and dark, looked at by axe-core: four of the
# site, the report of a packed study, of a network of one's own and of the demo where that was run, and the board (needs
# node, npm and Chromium; some ten minutes).
a11y: docs
	npm install --silent --no-audit --no-fund --no-package-lock --prefix build/a11y axe-core@4.14.1 puppeteer-core@25.16.0
	.venv/bin/spikeproof report results/pooling-digits
	.venv/bin/spikeproof board board
	.venv/bin/python -m manual.own build/own
	NODE_PATH=build/a11y/node_modules node manual/a11y.cjs build/a11y site:build/site board:board/board.html \
		$(patsubst %,report:%,results/pooling-digits/report.html build/own/report.html $(wildcard runs/demo/report.html))

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
	rm -rf .venv .venv-peers .venv-bounds .venv-docs build dist src/*.egg-info
