# Two commands do everything: `make demo` and `make test`. They need Python 3.11 or later and the package index.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: env demo test chaos bench bench-embedded bench-kafka image-check manifests-check lint lock clean

env: $(VENV)/.ready  ## the environment, as pinned in requirements.lock

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("streamd needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: env  ## the daemon on the embedded log, learning from a real stream
	$(BIN)/streamd demo

test: env  ## the whole suite
	$(BIN)/python -m pytest -n 3 --dist worksteal

ROUNDS ?= 2
SEED   ?= 1

chaos: env  ## the crash suite: every failure ROUNDS times, in an order chosen by SEED; about ten minutes a round
	$(BIN)/python -m tests.chaos.embedded --kills $$((100 * $(ROUNDS))) --seed $(SEED)
	$(BIN)/python -m tests.chaos.rolling --rounds $(ROUNDS) --seed $(SEED)
	for client in kafka-python confluent; do \
	  $(BIN)/python -m tests.chaos.kafka --client $$client --rounds $(ROUNDS) --seed $(SEED) || exit 1; \
	  $(BIN)/python -m tests.chaos.matching --client $$client --kills $$((10 * $(ROUNDS))) --seed $(SEED) || exit 1; done

bench: bench-embedded bench-kafka  ## what it costs, as ratios against peers and limits measured in the same run

bench-embedded: env  ## on the embedded log; a few minutes
	for name in throughput epoch_cost recovery replay memory; do $(BIN)/python -m tests.bench.$$name || exit 1; done

QUIX ?= $(BIN)/python
bench-kafka: env  ## on a Kafka and a Redis or Valkey of its own; ten minutes. QUIX: a Python with quixstreams and river
	$(BIN)/python -m tests.bench.kafka_throughput --quix $(QUIX)
	for name in latency recovery journal; do $(BIN)/python -m tests.bench.kafka_$$name || exit 1; done

ENGINE ?= docker
image-check: env  ## the image, run as compose.yaml runs it, on a Kafka and a Valkey of its own. ENGINE: or podman
	BUILDAH_FORMAT=docker $(ENGINE) build -t streamd -f deploy/docker/Dockerfile .
	$(BIN)/python -m tests.image --engine "$(ENGINE)"

MANIFESTS := .venv-manifests
manifests-check:  ## the Kubernetes manifests against Kubernetes' schemas, by kubectl and a checker in a venv of its own
	$(PYTHON) -m venv $(MANIFESTS)
	$(MANIFESTS)/bin/pip install --disable-pip-version-check -q kubernetes-validate==1.37.0
	kubectl kustomize deploy/kubernetes -o $(MANIFESTS)/manifests.yaml
	$(MANIFESTS)/bin/kubernetes-validate --strict $(MANIFESTS)/manifests.yaml

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

lock:  ## pin what pyproject.toml asks for
	uv pip compile pyproject.toml --extra confluent --group test --universal --generate-hashes --no-emit-index-url --python-version 3.11 -q -o requirements.lock

clean:
	rm -rf $(VENV) .demo build *.egg-info
