# Two commands: `make demo` and `make test`. Both set up .venv when it is absent or stale.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATA := data/demo

.PHONY: demo test clean

demo: $(READY)
	$(BIN)/compkit phantom --out $(DATA) --size 128 --labelled 60 --unlabelled 40 --test 40 --seed 0
	$(BIN)/compkit folds --data $(DATA) --out folds/demo.csv --k 3 --overwrite
	$(BIN)/compkit train --config configs/demo.yaml --data $(DATA) --run demo
	$(BIN)/compkit baseline watershed --data $(DATA) --out submissions/watershed.csv
	$(BIN)/compkit submit --run demo --encoder tf_efficientnet_lite0 --out submissions/lite0.csv
	$(BIN)/compkit submit --run demo --encoder tf_efficientnet_lite1 --out submissions/lite1.csv
	$(BIN)/compkit submit --run demo --out submissions/demo.csv
	$(BIN)/compkit check submissions/demo.csv --data $(DATA)
	$(BIN)/compkit score submissions/watershed.csv submissions/lite0.csv \
	    submissions/lite1.csv submissions/demo.csv --truth $(DATA)/Y_test.csv
	@echo "The ensemble's submission is submissions/demo.csv; its manifest lies beside it."

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# What `make demo` made; the environment stays.
clean:
	rm -rf $(DATA) runs/demo folds/demo.csv $(foreach s,watershed lite0 lite1 demo,submissions/$(s).csv submissions/$(s).json)

$(READY): pyproject.toml research/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("compkit needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv: about 3 GB to download, a minute or more"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt \
	    --config-settings editable_mode=compat --editable ".[dev,weights]" --editable ./research
	touch $(READY)
