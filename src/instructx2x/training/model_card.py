"""The card of a fine-tuned model: from what, on what and how it was trained, and what it may be used for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instructx2x import __version__
from instructx2x.training.recipe import Finetuning


def model_card(recipe: Finetuning, settings: Mapping[str, Any], data: Path, rows: int, processes: int) -> str:
    """The README.md of a model folder.

    Args:
        settings: of the run, as `settings.json` holds them.
        data: the dataset's folder, whose own settings go into the card.
        rows: pairs that were trained on.
        processes: devices at the end of the run.
    """
    built = data / "settings.json"
    how = json.loads(built.read_text()) if built.is_file() else {}
    start = settings["start"]["name"]
    start = Path(start).name if Path(start).exists() else start  # where it lay is nobody's business
    values = {name: value for name, value in asdict(recipe).items() if name != "start"}
    table = "\n".join(f"| {name} | {value} |" for name, value in values.items())
    return f"""\
# A fine-tuned InstructX2X model

Counterfactual chest X-rays by instruction. **Research only, not for diagnosis; its edits are synthetic images.**
Fine-tuned with x2x {__version__}, for {recipe.steps:,} steps of {recipe.batch:,} samples (at the end on {processes}
device{"s" if processes > 1 else ""}); the U-Net's weights are their moving average.

- Start: `{start}`, SHA-256 of its weights `{settings["start"]["sha256"]}`.
- Data: {rows:,} train pairs, fingerprint `{settings["data"]}`, built as below. The terms of the data hold for this
  model too: ask before you share a model that was trained on credentialed images.
- Not measured: nothing here says how good the edits are. `calibration.json` is not part of it, so the editor reports
  "uncalibrated" and normalises the relevance map inside the anatomy.

| setting | value |
|---|---|
{table}

The dataset's settings:

```json
{json.dumps(how, indent=2)}
```
"""
