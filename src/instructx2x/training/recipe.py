"""Recipes: short TOML files that say how a model is trained, what that costs, and what should come out.

A recipe with a table `[finetune]` fine-tunes a model as the paper does (`finetuning`); every other one trains the
bundled model from scratch (`run`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from instructx2x.errors import InputError

Precision = Literal["no", "bf16", "fp16"]


def read_toml(recipe: str | Path) -> dict[str, Any]:
    """A recipe by name (of those in `training/recipes`) or by path.

    Raises:
        InputError: there is no such recipe, or it is not TOML.
    """
    packaged = files("instructx2x.training") / "recipes"
    names = sorted(file.name.removesuffix(".toml") for file in packaged.iterdir() if file.name.endswith(".toml"))
    source = packaged / f"{recipe}.toml" if str(recipe) in names else Path(recipe)
    if not source.is_file():
        raise InputError(f"recipe {recipe} is neither a file nor one of: {', '.join(names)}")
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not a recipe: {str(error).splitlines()[0]}") from None


@dataclass(frozen=True)
class Finetuning:
    """The settings of a fine-tuning run: the table `[finetune]` of a recipe.

    Attributes:
        size: side of the model's and the dataset's squares in pixels.
        steps: optimiser steps.
        batch: samples a step, over all devices and accumulated.
        start: the model to start from, where the command line names none.
        learning_rate, weight_decay: of AdamW. The rate is constant.
        max_grad_norm: the gradient's norm is clipped to it.
        ema_decay: of the weights' moving average, which is what comes out; (1 + n) / (10 + n) where that is less.
        drop_text, drop_image, drop_both: shares of the samples whose text, past image, or both are dropped.
        precision: of the U-Net's arithmetic: no (float32), bf16 or fp16. Weights and optimiser stay float32.
        per_device: samples that go through a device at once.
        gradient_checkpointing: compute activations twice rather than keep them.
        log_every, checkpoint_every, validate_every: in steps.
        validation: pairs of the validate split on which the loss is measured; 0 for none.
        sheet: how many of them are edited for the sheet of samples.
        sheet_steps, text_guidance, image_guidance: how they are edited.
        seed: of every random choice.
    """

    size: int
    steps: int
    batch: int = 1024
    start: str = ""
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.9999
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    precision: Precision = "bf16"
    per_device: int = 4
    gradient_checkpointing: bool = True
    log_every: int = 10
    checkpoint_every: int = 100
    validate_every: int = 500
    validation: int = 64
    sheet: int = 8
    sheet_steps: int = 20
    text_guidance: float = 7.5
    image_guidance: float = 1.5
    seed: int = 0

    def __post_init__(self):
        positive = ("size", "steps", "batch", "per_device", "log_every", "checkpoint_every", "validate_every")
        for name in (*positive, "sheet_steps", "learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"recipe: {name} must be above 0 and not {getattr(self, name)}")
        for name in ("validation", "sheet", "seed", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"recipe: {name} must be 0 or more and not {getattr(self, name)}")
        dropped = (self.drop_text, self.drop_image, self.drop_both)
        if not all(0 <= share <= 1 for share in (*dropped, self.ema_decay)) or sum(dropped) > 1:
            raise InputError(
                "recipe: ema_decay and the shares drop_text, drop_image, drop_both and their sum are 0 to 1"
            )
        if self.sheet > self.validation:
            raise InputError(f"recipe: sheet ({self.sheet}) cannot be more than validation ({self.validation})")


def finetuning(content: dict[str, Any]) -> Finetuning:
    """The settings of a recipe with a table `[finetune]`.

    Raises:
        InputError: a setting that is missing, unknown, of another type or out of range.
    """
    table, kinds = content["finetune"], get_type_hints(Finetuning)
    if not isinstance(table, dict) or set(content) != {"finetune"}:
        raise InputError("recipe: a recipe with [finetune] holds this one table and nothing else")
    for name, value in table.items():
        if name not in kinds:
            raise InputError(f"recipe: [finetune] has no setting {name!r}")
        if kinds[name] is Precision:
            if value not in get_args(Precision):
                raise InputError(f"recipe: precision is one of {', '.join(get_args(Precision))}, and not {value!r:.40}")
            continue
        taken = (int, float) if kinds[name] is float else kinds[name]
        if not isinstance(value, taken) or (isinstance(value, bool) and kinds[name] is not bool):
            raise InputError(f"recipe: {name} must be of type {kinds[name].__name__} and not {value!r:.40}")
    missing = [field.name for field in fields(Finetuning)[:2] if field.name not in table]
    if missing:
        raise InputError(f"recipe: [finetune] lacks {', '.join(missing)}")
    return Finetuning(**table)
