"""Training, of two kinds: `finetuning`, from an InstructPix2Pix model on a dataset of pairs, as the paper does it; and
`run`, the bundled model from open X-rays, in the order VAE, lungs, pairs, text encoder, U-Net."""
