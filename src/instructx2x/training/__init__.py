"""Training: the bundled model from open X-rays, in the order VAE, lungs, pairs, text encoder, U-Net."""
