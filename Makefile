# Every target works from a fresh clone on a machine with Python 3.11+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: setup demo test pytest fuzz lint type docs docs-check settings-reference bench bench-mining bench-resume bench-collapse bench-evaluation bench-finetune bench-strategies bench-export bench-35k bench-processes test-api test-scale scale bench-bank lock audit attack clean

setup: $(READY)

# uv itself comes from the same lock, so its hash is checked like everything else's. Bytecode is compiled at once: where
# Python may not write it, each start would compile a thousand files again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mohs needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Renews requirements.lock; it holds names, versions and hashes, never an index address.
lock: | $(VENV)/bin/uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --python-version 3.11 --extra dev --extra docs --extra heif --extra onnx --extra qdrant --extra search --extra serve --extra track pyproject.toml \
		--output-file requirements.lock

$(VENV)/bin/uv: $(READY)

demo: setup
	$(BIN)/mohs demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: setup
	$(BIN)/mypy

# 210 malformed variants of everything that Mohs saves, and made-up inputs for 300 s for each of five readers and 30
# for each of four others. FUZZ_S=3600 tries an hour each.
FUZZ_S ?= 300
fuzz: setup
	MOHS_FUZZ_VARIANTS=210 MOHS_FUZZ_S=$(FUZZ_S) $(BIN)/pytest -s --timeout 0 tests/robustness/test_malformed.py tests/robustness/test_fuzz.py

# Types beside the tests, since they take one core for a minute. Made-up inputs have 60 s for each of five readers
# (tests/robustness/test_fuzz.py); with MOHS_FUZZ_S=1 they have one.
test: export MOHS_FUZZ_S ?= 60
test: lint
	$(MAKE) --jobs 2 type pytest

# Each process has whole files: a file's fixtures are made once. It has one thread for its arithmetic: of two in each, on two
# cores, they spent a fifth of the CPU in waiting for each other.
TEST_PROCESSES ?= 2
pytest: export OMP_NUM_THREADS ?= 1
pytest: setup
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# Whether the services answer as their OpenAPI documents say: requests are made up by schemathesis, which uvx fetches.
# Two minutes. MORE="--examples 1000" asks longer.
test-api: setup
	$(BIN)/python benchmarks/check_api.py $(MORE)

# Embedding and mining on a Ray cluster, tables and an index in a bucket of an S3 server on loopback. Five minutes, after the
# environment.
test-scale: scale
	build/scale/bin/python -m pytest tests/scale

# Ray, s3fs and moto's server are fetched into an environment of their own, beside what the lock file names.
scale: build/scale/.ready
build/scale/.ready: $(READY)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python build/scale
	VIRTUAL_ENV=$(CURDIR)/build/scale $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/build/scale $(BIN)/uv pip install --quiet --editable '.[ray]' 'moto[server]>=5' 's3fs>=2024.6'
	@touch $@

# A bank of 10,000,000 vectors on disk, mined with bounded memory; 1.3 GB of disk. See benchmarks/bench_bank.py.
bench-bank: setup
	$(BIN)/python benchmarks/bench_bank.py --json build/bank.json $(MORE)

# The site, in build/docs: the guides, and the reference from the docstrings. A link that leads nowhere is an error.
docs: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/build_site.py

# The built site in a browser: its search, links, pictures' texts, three widths, light and dark.
docs-check: docs
	$(BIN)/python docs/check_site.py

# docs/settings.md, from the descriptions in src/mohs/settings/config.py.
settings-reference: setup
	@mkdir -p build
	$(BIN)/python -c 'from mohs.cli.train import flags; from mohs.settings.reference import settings_page; print(settings_page(flags()), end="")' > build/settings.md
	mv build/settings.md docs/settings.md

bench: bench-mining bench-evaluation

# Measures (a quarter of an hour on two cores, 9 GB; the machine should do nothing else), keeps the figures, and writes the
# tables and the chart of docs/performance.md from them.
bench-mining: setup
	$(BIN)/python benchmarks/bench_mining.py --json benchmarks/mining.json
	$(BIN)/python benchmarks/mining_report.py benchmarks/mining.json

# Which strategies collapse: 22 minutes of one core of an EPYC. OMNIGLOT=folder or table gives the second data set. Cells
# that are in the CSV are skipped, so a run that was cut short goes on.
bench-collapse: setup
	$(BIN)/python benchmarks/bench_collapse.py --out build/bench-collapse.csv $(if $(OMNIGLOT),--omniglot "$(OMNIGLOT)")

# All strategies on four sets: about three hours of one core of an EPYC. OMNIGLOT, EMOJI and CALTECH30 are folders (or tables),
# MOBILENETV2 is the weights for the last of them; sets without are left out. MORE="--seeds 5 --sets glyphs" and so on. What
# is there already is not run again, so a run that was cut short goes on, and two sets may run at once.
bench-strategies: setup
	$(BIN)/python benchmarks/bench_strategies.py --out build/strategies $(if $(OMNIGLOT),--omniglot "$(OMNIGLOT)") \
		$(if $(EMOJI),--emoji "$(EMOJI)") $(if $(CALTECH30),--caltech30 "$(CALTECH30)") \
		$(if $(MOBILENETV2),--weights "$(MOBILENETV2)") $(MORE)

bench-evaluation: setup
	$(BIN)/python benchmarks/bench_evaluation.py

# CALTECH30 is the folder or the zip of the pictures, LITE0 the weights of tf_efficientnet_lite0. See
# benchmarks/bench_finetune.py; MORE="--backbone mobilenetv2_100" takes another network.
bench-finetune: setup
	$(BIN)/python benchmarks/bench_finetune.py $(if $(CALTECH30),--data "$(CALTECH30)") \
		$(if $(LITE0),--weights "$(LITE0)") $(MORE)

# CALTECH30 is the folder of the pictures, LITE0 the weights of tf_efficientnet_lite0.
bench-export: setup
	$(BIN)/python benchmarks/bench_export.py --data "$(CALTECH30)" $(if $(LITE0),--weights "$(LITE0)")

# The published size: 35,000 classes, 70,000 triplets, 70 cycles, and what else one may do. Rows that are there are not run
# again. The pictures are drawn from Debian's fonts-cns11643-sung, fonts-cns11643-kai and fonts-hanazono; FONTS is the
# folder that has them, if it is another one.
bench-35k: setup
	$(BIN)/python benchmarks/bench_35k.py --han build/han --out build/bench-35k.jsonl $(if $(FONTS),--fonts "$(FONTS)") $(MORE)

# One process of two threads against two of one, for embedding, mining and evaluation.
bench-processes: setup
	$(BIN)/python benchmarks/bench_processes.py $(MORE)

# Thirty runs killed at random moments and taken up again: all must end with the same weights and plans.
bench-resume: setup
	$(BIN)/python benchmarks/kill_and_resume.py --kills 30

# Processes killed while they train, mine, build an index, take up its versions and serve it, 30 times each, and pairs of trainings in one
# folder. MORE="--only build serve" attacks those alone.
attack: setup
	$(BIN)/python benchmarks/attack_writers.py $(MORE)

# What is known against the versions in the lock file, and a list of them (CycloneDX) in build/sbom.json. It needs a network.
audit: setup
	PATH="$(BIN):$$PATH" $(BIN)/python benchmarks/audit.py

# Wheel and source distribution in dist/, and a look whether both work in a clean environment: it holds the wheel alone (built
# from the source distribution), and trains, measures, indexes and searches from another folder.
release: setup
	rm -rf dist build/release
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python
	$(BIN)/uv venv --quiet --python $(BIN)/python build/release/env
	VIRTUAL_ENV=build/release/env $(BIN)/uv pip install --quiet --constraint requirements.lock "$$(ls dist/*.whl)[search]"
	cd build/release && ./env/bin/mohs --version && ./env/bin/mohs glyphs shop --size 32 --classes 40 \
		&& ./env/bin/mohs train shop --size 32 --channels 1 --triplets 100 --out run --quiet && ./env/bin/mohs evaluate run --quiet \
		&& ./env/bin/mohs index build shop.index shop --embedder run \
		&& ./env/bin/mohs search shop.index shop/DejaVuSans/U+0021.png --top 1
	tar --list --file dist/*.tar.gz | grep --quiet CITATION.cff
	ls -l dist

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
