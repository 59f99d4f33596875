# From a clean clone, Python >= 3.11 and make are enough for all of this.

PYTHON ?= python3
PHOTO ?= tests/media/astronaut.jpg
USERS ?= 8
SECONDS ?= 30
# Where the data sets are, as their official files.
DATA ?= ../shared/data
# A YuNet-format detector, to compare with.
YUNET ?= ../shared/peers/yunet_2023mar.onnx

FER2013 := $(firstword $(wildcard $(DATA)/fer2013.csv) runs/data/fer2013.csv)
UTKFACE := $(DATA)/utkface.zip
ALL_AGE_FACES := $(DATA)/all_age_faces.zip
SETS := --data fer2013=$(FER2013) --data utkface=$(UTKFACE) --data all_age_faces=$(ALL_AGE_FACES)
# All but the ablations: name those as RECIPES="joint_cnn_no_dense ...". Teachers come first; ensembles last, made of the others.
ENSEMBLES := $(notdir $(basename $(wildcard training/recipes/ensemble_*.toml)))
TEACHERS := $(notdir $(basename $(wildcard training/recipes/vgg_*.toml)))
OTHERS := $(filter-out $(TEACHERS) $(ENSEMBLES),$(notdir $(basename $(wildcard training/recipes/*.toml))))
RECIPES := $(TEACHERS) $(OTHERS) $(ENSEMBLES)
# Not every recipe has been trained yet.
TRAINED = $(filter $(RECIPES),$(notdir $(patsubst %/model.keras,%,$(wildcard models/*/model.keras))))
VENV := .venv
BIN := $(VENV)/bin
# Starts a server on a free port, runs a command against it and stops it.
WITH_SERVER := $(BIN)/python scripts/with_server.py

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: serve
serve: $(VENV)/.cpu ## Serve the committed models on http://127.0.0.1:8000
	$(BIN)/mien serve

.PHONY: demo
demo: $(VENV)/.cpu ## Send PHOTO through a running server, print the JSON, write an annotated PNG
	@$(WITH_SERVER) $(BIN)/mien analyze --server {url} --json --annotate artifacts/demo "$(PHOTO)"

.PHONY: test
test: $(VENV)/.dev ## Run every test; service/ must be covered to 90 %, with branches
	$(BIN)/pytest --cov --cov-fail-under=90

.PHONY: opencv
opencv: $(VENV)/.dev $(VENV)/opencv5/.done ## Run the tests that concern OpenCV with OpenCV 5
	PYTHONPATH=$(VENV)/opencv5 $(BIN)/python -c 'import cv2; assert cv2.__version__ >= "5", cv2'
	PYTHONPATH=$(VENV)/opencv5 $(BIN)/pytest $(OPENCV_TESTS)

# Those of the API need the default detector, which Haar cannot be there.
OPENCV_TESTS := tests/unit/vision tests/unit/core/test_prepare.py tests/unit/runtime/test_detector.py \
	tests/unit/runtime/test_mien_detector.py $(if $(wildcard models/detector/card.json),tests/api/test_analyze.py)

# Only OpenCV itself, in front of the one in the environment.
$(VENV)/opencv5/.done: requirements/opencv5.txt | $(VENV)/.dev
	$(BIN)/python -m pip install -qq --no-deps --require-hashes --upgrade --target $(@D) -r $<
	@touch $@

.PHONY: check
check: $(VENV)/.dev ## Format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: train
train: $(VENV)/.dev $(FER2013) ## Train and publish every recipe on the sets in DATA; goes on where it stopped
	for name in $(RECIPES); do for step in train publish; do \
	  $(BIN)/python -m training $$step $$name --fer2013 $(FER2013) --utkface $(UTKFACE) \
	  --all-age-faces $(ALL_AGE_FACES) || exit; done; done

.PHONY: export
export: $(VENV)/.dev $(FER2013) ## Convert the trained models to ONNX, measure them, compare with Keras
	for name in $(TRAINED); do $(BIN)/python -m export convert $$name && \
	  $(BIN)/python -m training evaluate $$name $(SETS) --folds 5 && \
	  $(BIN)/python -m export verify $$name $(SETS) || exit; done

# The table in docs/detector.md, beside the default of 640; no scene of the set is larger than 450 px.
SIDES := 160 320 480 960 1280

.PHONY: detector
detector: $(VENV)/.dev ## Measure the detector beside YuNet and Haar: AP, recall, time; then whole requests
	$(BIN)/python -m training evaluate detector $(DATA)/detection.zip --yunet $(YUNET) \
	  $(addprefix --max-side ,$(SIDES))
	$(BIN)/python -m training evaluate detector $(DATA)/detection.zip --mosaic 3 --no-haar --tiles 2 \
	  $(addprefix --max-side ,$(SIDES))
	$(BIN)/python -m benchmarks.detectors

.PHONY: quantize
quantize: $(VENV)/.dev $(FER2013) ## Make int8 and fp16 of the models, measure them, keep those that are better
	for name in $(TRAINED); do $(BIN)/python -m export quantize $$name $(SETS) || exit; done

.PHONY: results
results: $(VENV)/.dev ## Send photos through the models, time them, and write docs/results.md
	$(BIN)/python -m training photos --fairface $(DATA)/fairface.zip --yunet $(YUNET)
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m training results

# The set beside the checkout is packed without loss.
runs/data/fer2013.csv: | $(VENV)/.dev
	$(BIN)/python ../shared/tools/unpack_fer2013.py $(@D)

.PHONY: bench
bench: $(VENV)/.dev ## Time the service against the sum of its bare parts
	$(BIN)/python -m benchmarks

.PHONY: load
load: $(VENV)/.dev ## Load a server with USERS for SECONDS and print a table
	@$(WITH_SERVER) $(BIN)/locust --config loadtest/locust.conf --host {url} \
	  --users $(USERS) --run-time $(SECONDS)s

.PHONY: lock
lock: $(VENV)/.dev ## Resolve requirements/*.txt after a change of pyproject.toml; delete them first to upgrade
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --extra cpu --extra client --output-file requirements/cpu.txt
	$(COMPILE) --extra gpu --extra client --constraint requirements/cpu.txt --output-file requirements/gpu.txt
	$(COMPILE) --extra dev --constraint requirements/cpu.txt --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet requirements/opencv5.in --universal --python-version 3.11 --no-deps \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements/opencv5.txt

# `fewest`: one version of a package for every Python, so that all of us run the same code.
COMPILE := $(BIN)/uv pip compile --quiet pyproject.toml requirements/build.in --universal \
	--python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header \
	--excludes requirements/excluded.txt

.PHONY: clean
clean: ## Remove the environment, caches and builds
	rm -rf $(VENV) .coverage* .*_cache .hypothesis dist artifacts
	find . -name __pycache__ -prune -exec rm -rf {} +

# Stamps: written last, so an interrupted install is done again.
$(VENV)/.cpu $(VENV)/.dev: $(VENV)/.%: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "mien needs Python >= 3.11, and $(PYTHON) is %d.%d; name another with PYTHON=" % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing $< into $(VENV)"
	@# The lock is complete, and leaves out what requirements/excluded.txt names.
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r $<
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@
