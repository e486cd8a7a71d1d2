"""The autoencoder's last steps may not touch what others have learned on."""

import numpy as np
import polars as pl
import torch

from instructx2x.training.vae import encode, train_vae


def test_the_last_steps_train_the_decoder_alone(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    table = pl.DataFrame({"split": ["train"] * 6, "adult": [True] * 5 + [False]})

    def train(decoder_steps):
        settings = {"channels": (8, 8, 8, 8), "steps": 2, "batch": 2, "crop": 32, "decoder_steps": decoder_steps}
        return train_vae(images, table, work=tmp_path, size=32, **settings)

    before, after = train(0), train(3)
    assert torch.equal(encode(before, images), encode(after, images))
    assert before.config.scaling_factor == after.config.scaling_factor
    parts = zip(before.decoder.parameters(), after.decoder.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in parts)
    # A third run finds both parts done, and gives the same weights.
    again = train(3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in after.state_dict().items())
