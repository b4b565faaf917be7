# Everything runs in .venv, which `make setup` creates; nothing is installed outside the tree
# except the Debian packages that tools/setup names.
# PYTHON=... names the interpreter; any of 3.11 to 3.13 does.
BIN := .venv/bin

export PYTHON

.PHONY: setup demo test test-fast soak android bench reproduce lint format clean

setup:
	tools/setup

demo: setup
	$(BIN)/python tools/demo.py

test: setup lint
	tools/run_tests

test-fast: setup
	$(BIN)/pytest -m "not slow"

# What CI does for minutes, for hours: kills, damaged files, kernels at full size, replies and merges
# of a real model, a federation of 100 simulated nodes, mutated traces, tokenizers of full size, the
# app's nights and the whole of its first run, also by the APK's arm64 engine.
soak: setup
	TOOLKIT_SOAK=400 $(BIN)/pytest tests/runtime/engine/training/test_kills.py
	TOOLKIT_SOAK=3000 $(BIN)/pytest tests/runtime/engine/model/test_damage.py
	TOOLKIT_SOAK=7000 $(BIN)/pytest tests/cli/test_damage.py
	TOOLKIT_SOAK=1 $(BIN)/pytest tests/runtime/kernels/test_full_size.py tests/oracle/test_full_size.py tests/api/test_families.py
	TOOLKIT_SOAK=1 $(BIN)/pytest -s tests/generation/test_real_model.py tests/exchange/test_gguf_adapter.py
	TOOLKIT_SOAK=1 $(BIN)/pytest tests/federation/test_kills.py
	TOOLKIT_SOAK=20 tools/check_flower -k "killed or simulation_of or was_lost"
	$(BIN)/python tools/fuzz_traces.py
	TOOLKIT_SOAK=100 tools/android/build -Dtest=NightKillsTest,FirstRunTest
	TOOLKIT_CACHE=$${TOOLKIT_CACHE:-$(CURDIR)/.cache/toolkit} $(BIN)/python tools/android/check_first_run.py
	$(BIN)/python tools/android/real_tokenizers.py

# The app: tests on the JVM with the real engine, then a signed debug APK. No Android SDK is needed.
android: setup
	tools/android/build

# Every figure of the README, some hours in all: tables on the terminal, JSON and PNG in .cache/bench.
BENCHMARKS := step memory methods gemm fixed16 threads roofline endurance overlap windows export scaling generate federation
bench: setup
	for name in $(BENCHMARKS); do \
	    $(BIN)/python tools/bench/$$name.py --json .cache/bench/$$name.json || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "bars missed:$$failed"; exit 1; }

# Tables and figures of papers, some hours in all; goes on where it was: tools/reproduce/README.md.
REPRODUCTIONS := mezo_and_mebp memory_and_length cosine largest_model selected_layers optimizers convergence federation
reproduce: setup
	$(BIN)/python tools/fetch_demo_assets.py
	for name in $(REPRODUCTIONS); do \
	    $(BIN)/python tools/reproduce/$$name.py || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cc' '*.h' | xargs -r $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy
	$(BIN)/pytest tests/test_style.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cc' '*.h' | xargs -r $(BIN)/clang-format -i

clean:
	rm -rf build demo .pytest_cache .ruff_cache .mypy_cache
