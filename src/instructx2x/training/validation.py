"""How a fine-tuning run is judged under way: the loss with fixed noise, and edits of the same images every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image, ImageDraw, ImageFont

from instructx2x import NOTICE
from instructx2x.imaging.writing import eight_bit, write_png
from instructx2x.models import Backbone
from instructx2x.training.batches import Pairs, squared_errors
from instructx2x.training.draws import validation_draw
from instructx2x.training.plain import edit_everywhere
from instructx2x.training.recipe import Finetuning

CAPTION = 22


@torch.no_grad()
def loss(model: Backbone, pairs: Pairs, recipe: Finetuning, accelerator: Accelerator) -> float:
    """Mean squared error of the predicted noise over `pairs`: nothing dropped, the same noise every time."""
    count = len(pairs)
    starts = range(0, count, recipe.per_device)[accelerator.process_index :: accelerator.num_processes]
    errors: list[tuple[int, float]] = []
    for start in starts:
        rows = range(start, min(start + recipe.per_device, count))
        draws = [validation_draw(row, count, recipe.seed, model.latent_shape[1:], pairs.timesteps) for row in rows]
        values = squared_errors(model.unet, model, pairs.batch(rows, draws))
        errors += zip(rows, values.tolist(), strict=True)
    return float(np.mean([error for _, error in sorted(gather_object(errors))]))


@torch.no_grad()
def sheet(model: Backbone, pairs: Pairs, recipe: Finetuning, accelerator: Accelerator) -> np.ndarray:
    """Sample edits of the first pairs: past image, edit, and the real current image, under the instruction.

    The whole image is sampled, without a mask, from noise that is the same every time.

    Returns:
        (rows, columns, 3) uint8.
    """
    mine = []
    for row in range(min(recipe.sheet, len(pairs)))[accelerator.process_index :: accelerator.num_processes]:
        draw = validation_draw(row, len(pairs), recipe.seed, model.latent_shape[1:], pairs.timesteps)
        batch = pairs.batch([row], [draw])
        past, current = batch.past.to(model.device), batch.current.to(model.device)
        scaled = past * model.vae.config.scaling_factor
        edited = edit_everywhere(
            model,
            scaled,
            past,
            batch.texts[0],
            batch.noise,
            steps=recipe.sheet_steps,
            text_guidance=recipe.text_guidance,
            image_guidance=recipe.image_guidance,
        )
        images = model.decode(torch.cat((scaled, edited, current))).mean(1).float().cpu().numpy()
        mine.append((row, eight_bit(images), batch.texts[0]))
    return _picture(sorted(gather_object(mine), key=lambda entry: entry[0]))


def _picture(rows: list[tuple[int, np.ndarray, str]]) -> np.ndarray:
    size = rows[0][1].shape[-1]
    picture = Image.new("RGB", (max(3 * size, 480), len(rows) * (size + CAPTION) + CAPTION))
    write, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, images, text in rows:
        top = number * (size + CAPTION)
        write.text((4, top + 3), f"{text} (past, edited, current)", fill="white", font=font)
        for column, image in enumerate(images):
            picture.paste(Image.fromarray(image), (column * size, top + CAPTION))
    write.text((4, len(rows) * (size + CAPTION) + 3), NOTICE, fill=(255, 190, 60), font=font)
    return np.asarray(picture)


def write_sheet(picture: np.ndarray, folder: Path, step: int) -> None:
    """Write a sheet as `folder/step-0000000.png`."""
    folder.mkdir(exist_ok=True)
    write_png(picture, folder / f"step-{step:07d}.png", text={"Synthetic": "yes", "Notice": NOTICE})
