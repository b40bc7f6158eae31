# make demo, make test: each sets up everything that it needs in .venv.

PYTHON ?= python3
# The versions that the tests ran with need Python 3.11; on 3.10: make test CONSTRAINTS=
CONSTRAINTS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/bin
BUNDLE := build/demo-bundle
TAGS := tests/tags
PRECISION ?= fp32
GATE_int4 := --max-drop 1
# Parses and builds without a GPU, which is what the tests need; its dependencies bring a CUDA runtime.
RTX := tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings

# For a machine with a GPU and no network: its Python's version, the largest piece in bytes, what `make gpu` is told.
GPU_PYTHON ?= 3.12
PIECE ?= 15000000
GPU_OPTIONS ?=
# Of make big-checkpoint: clip, det or seg, 2b or 7b; or a model without looks of its own, such as
# qwen2.5-vl-3b.
KIND ?= clip
SIZE ?= 2b
PARITY := transformers==5.24.0 optimum==2.3.0
PARITY_VENV := build/parity-venv
PURELIB := import sysconfig; print(sysconfig.get_path('purelib'))
PARITY_TESTS = $(BENCH) $(PARITY_VENV)/bin/python -m pytest tests/parity
EXPORT := $(wildcard export/*.py export/*/*.py export/*/*/*.py)
TESTS := $(wildcard tests/*.py tests/*/*.py tests/*/*/*.py tests/*/*/*/*.py)
# The packages are held as vpt_edge, by the links in tests/typing.
TYPED := $(filter-out tests/typing/%,$(TESTS)) $(wildcard demo/*.py demo/*/*.py examples/*.py benchmarks/*.py)
BENCH := PYTHONPATH=tests/typing:tests:demo:.

# Of make faults: how many of the faults are tried in an export that traces its graphs, a minute each.
REAL_FAULTS ?= 6
# Of make fuzz: seconds of each target; all targets unless some are named.
SECONDS ?= 60
TARGETS ?=

.PHONY: demo test parity outages faults eval-demo figures train-demo fuzz lint big-checkpoint gpu gpu-wheels clean

demo: $(BUNDLE)-fp32
	$(BIN)/python demo/run.py $(BUNDLE)-fp32 --out build/demo
	$(BIN)/python demo/watch.py $(BUNDLE)-fp32 --out build/demo

# Server, page and moving scenes, until Ctrl-C.
.PHONY: demo-live
demo-live: $(BUNDLE)-fp32
	$(BIN)/python demo/serve.py $(BUNDLE)-fp32

# How well unseen signs are read, with a look and without.
eval-demo: $(BUNDLE)-$(PRECISION)
	$(BIN)/python demo/evaluate.py $(BUNDLE)-$(PRECISION)

figures: $(foreach precision,fp32 fp16 int8 int4,$(BUNDLE)-$(precision))
	$(BIN)/python demo/figures.py $^

# An hour or two; ended at any moment, the same command goes on.
train-demo: $(VENV)/ready build/typefaces
	PYTHONPATH=demo $(BIN)/python -m signs.train --out demo/checkpoint --compile

build/typefaces: demo/signs/package.json
	mkdir -p $@
	cp $< $@
	npm install --prefix $@ --no-audit --no-fund --silent
	touch $@

# The second core computes what transformers does meanwhile.
test: lint build/debian-ready $(PARITY_VENV)/ready
	$(PARITY_TESTS) >build/parity.log 2>&1 & \
	$(BIN)/python -m pytest; suite=$$?; \
	wait $$!; parity=$$?; cat build/parity.log; \
	test $$suite = 0 && test $$parity = 0

# What transformers computes, of tiny models that it makes, in an environment that has it beside what
# .venv has; the differences go into the page.
parity: $(PARITY_VENV)/ready
	$(PARITY_TESTS) --write-table docs/exactness.md

$(PARITY_VENV)/ready: $(VENV)/ready
	$(BIN)/python -m venv $(PARITY_VENV)
	echo "import site; site.addsitedir('$$($(BIN)/python -c "$(PURELIB)")')" \
		>"$$($(PARITY_VENV)/bin/python -c "$(PURELIB)")/borrowed.pth"
	$(PARITY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) $(PARITY)
	touch $@

# A camera's server dies and comes back, so often. Some minutes; make test has 3.
OUTAGES ?= 20

outages: $(VENV)/ready build/debian-ready
	OUTAGES=$(OUTAGES) $(BIN)/python -m pytest tests/live/test_outages.py

# TensorRT-RTX builds every graph of every family in every precision; make test has two of them.
.PHONY: builds
builds: $(VENV)/ready
	PRECISIONS="fp32 fp16 int8 int4" $(BIN)/python -m pytest tests/runtime/sessions/test_tensorrt_rtx.py

# What Debian has and PyPI has not: real peers for the tests, which are skipped where they are missing.
DEBIAN := python3-gi gir1.2-gst-rtsp-server-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base \
	gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-tools gstreamer1.0-rtsp \
	mosquitto openssl chromium
# A machine may have npm from elsewhere, beside which Debian's is refused, and the rest with it.
DEBIAN += $(shell command -v npm >/dev/null || echo npm)

build/debian-ready:
	@mkdir -p build
	@if [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(DEBIAN) >build/debian.log; \
	then touch $@; \
	else echo "Debian's packages were not installed (it takes root): the tests that need them are skipped"; fi

faults: build/tags-bundle-fp32
	$(BENCH) $(BIN)/python -m faults build/tags-bundle-fp32 --real $(REAL_FAULTS)

# Damaged inputs, without end: make fuzz SECONDS=600 TARGETS="manifest tokenizer"
fuzz: $(VENV)/ready
	$(BENCH) $(BIN)/python -m fuzz $(TARGETS) --seconds $(SECONDS)

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy tests/typing/vpt_edge $(TYPED)

big-checkpoint: $(VENV)/ready
	$(BENCH) $(BIN)/python -m benchmarks.big_checkpoint --kind $(KIND) --size $(SIZE) \
		--out build/big-$(if $(filter qwen%,$(KIND)),,$(SIZE)-)$(KIND)

gpu-wheels: build/bundles/ready
	$(BIN)/python benchmarks/carry.py collect build/wheels --python $(GPU_PYTHON) --piece $(PIECE)

gpu:
	$(PYTHON) benchmarks/carry.py install build/wheels --out build/gpu
	$(BENCH) build/gpu/venv/bin/python -m benchmarks.gpu --bundles build/gpu/bundles --out build/gpu $(GPU_OPTIONS)

build/bundles/ready: $(VENV)/ready $(TAGS)/model.safetensors $(EXPORT) tests/exports.py benchmarks/bundles.py
	$(BENCH) $(BIN)/python -m benchmarks.bundles build/bundles
	touch $@

$(BUNDLE)-int%: $(VENV)/ready demo/checkpoint/model.safetensors $(EXPORT) $(wildcard calibration/*.py) build/calibration/data.jsonl
	$(BIN)/vpt-export demo/checkpoint -o $@ --precision int$* --calibration-data build/calibration/data.jsonl $(GATE_int$*)
	touch $@

$(BUNDLE)-%: $(VENV)/ready demo/checkpoint/model.safetensors $(EXPORT)
	$(BIN)/vpt-export demo/checkpoint -o $@ --precision $*
	touch $@

# Of the small model that most tests ask.
build/tags-bundle-fp32: $(VENV)/ready $(TAGS)/model.safetensors $(EXPORT)
	$(BIN)/vpt-export $(TAGS) -o $@ --precision fp32
	touch $@

build/calibration/data.jsonl: $(VENV)/ready demo/scenes.py demo/sheet.py $(wildcard live/signs/*.py)
	$(BIN)/python demo/scenes.py --part training --seed 5000 --count 240 --out build/calibration

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[export,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --no-deps $(RTX)
	touch $@

# The image for a CPU, step by step in a chroot where there is no docker: as root, on Debian.
IMAGE_BASE := build/bookworm

.PHONY: image-steps
image-steps: build/tags-bundle-fp32 $(IMAGE_BASE)
	$(BENCH) $(BIN)/python -m images deploy/docker/cpu.Dockerfile --base $(IMAGE_BASE) --bundle build/tags-bundle-fp32

$(IMAGE_BASE):
	debootstrap --variant=minbase bookworm $@

# Requests of all kinds, for so long: what grows or differs ends it with 1.
MINUTES ?= 10

.PHONY: soak
soak: $(BUNDLE)-fp32
	$(BENCH) $(BIN)/python -m benchmarks.soak $(BUNDLE)-fp32 --minutes $(MINUTES)

# A watch of moving scenes, with a video and lines of JSON: make watch-soak MINUTES=30
.PHONY: watch-soak
watch-soak: $(BUNDLE)-fp32
	$(BENCH) $(BIN)/python -m benchmarks.watch_soak $(BUNDLE)-fp32 --minutes $(MINUTES) --out build/watch-soak

# 32 clients of a server, a tenth of which leave and a tenth send rubbish: make bench-serve MINUTES=10
.PHONY: bench-serve
bench-serve: $(BUNDLE)-fp32
	$(BENCH) $(BIN)/python -m benchmarks.serve_load $(BUNDLE)-fp32 --minutes $(MINUTES)

# Requests of all kinds, made of the server's description of its API: make fuzz-server REQUESTS=10000
REQUESTS ?= 10000

.PHONY: fuzz-server
fuzz-server: $(BUNDLE)-fp32
	$(BENCH) $(BIN)/python -m server_fuzz $(BUNDLE)-fp32 --requests $(REQUESTS)

# Ray has an environment of its own: 620 MB.
RAY := ray[serve]==2.60.0
RAY_VENV := build/ray-venv

.PHONY: ray
ray: $(VENV)/ready $(RAY_VENV)/ready
	$(BIN)/python -m pytest tests/examples/test_servers.py

$(RAY_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[serve]' '$(RAY)'
	touch $@

# Other libraries have an environment of their own; llama.cpp is built from its source, for this processor.
PEERS := llama-cpp-python==0.3.36 gguf==0.19.0 transformers==5.23.0 onnxruntime-genai==0.18.0
PEERS_VENV := build/peers-venv
PEERS_OPTIONS ?=

.PHONY: bench-peers
bench-peers: $(PEERS_VENV)/ready
	$(BENCH) $(PEERS_VENV)/bin/python -m benchmarks.peers $(PEERS_OPTIONS)

$(PEERS_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[export]' $(PEERS)
	touch $@

# The docs have an environment of their own too: no torch. They read the docstrings and import nothing.
DOCS_VENV := build/docs-venv

.PHONY: docs
docs: $(DOCS_VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet

$(DOCS_VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable '.[docs]'
	touch $@

# As root, on Debian: the wheel in a Debian for AArch64 under an emulator; minutes, and longer the first time.
.PHONY: arm64
arm64: build/arm64/bundles/ready
	$(BENCH) $(BIN)/python -m arm64 build/arm64

build/arm64/bundles/ready: $(VENV)/ready $(TAGS)/model.safetensors $(EXPORT) tests/exports.py tests/arm64/bundles.py
	$(BENCH) $(BIN)/python -m arm64.bundles build/arm64/bundles
	touch $@

# On Debian: a machine with a Video4Linux camera, under an emulator; a minute or two.
.PHONY: camera
camera: $(VENV)/ready
	$(BENCH) $(BIN)/python -m vivid build/camera

clean:
	rm -rf build $(VENV)
