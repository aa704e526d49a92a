# make demo   train on real data and see a picture
# make test   run the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BENCHMARKS := ed_25gaussians ed_gradient_variance toy_densities digits_anomaly vera_toy vera_step samplers log_z \
	density2d.search density2d bsds joint_step joint_stability faults \
	tables.adbench tables.calibration_adult tables.discrete tables.imputation tables.synthesis tables.table_speed
RECIPES := ed_nearsightedness ed_w_stabilisation ed_t_m_w_ablation vera_entropy_bias_variance vera_toy_lambda vera_dimensions \
	ed_then_generator vera_stacked_mnist vera_nice_mnist jem_har jem_adult jem_fashion_ood edlebm_mnist latent_interpolation
JOBS ?= 2

.PHONY: demo test lint bench peers recipes clean

# the tested versions; torch first, alone, so that a build of it that is already at hand is taken
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/chainfree train recipes/digits_anomaly/config.toml

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(JOBS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED) peers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done
	$(BIN)/python -m benchmarks.readme

# synthesizers to compare with, which need other versions than we do
PEERS := .venv-peers
peers: $(PEERS)/.installed
$(PEERS)/.installed: constraints-peers.txt constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r constraints-peers.txt
	touch $@

recipes: $(INSTALLED)
	set -e; for name in $(RECIPES); do $(BIN)/chainfree recipes $$name; done

clean:
	rm -rf $(VENV) $(PEERS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
