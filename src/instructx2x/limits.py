"""Limits of settings that several rooms share."""

# Below it the mask would hold every place where the guidance map is not zero: a threshold that protects nothing.
MIN_THRESHOLD = 0.001

# Published edits use a text guidance of up to 15. Far beyond, latents overflow.
MAX_GUIDANCE = 100.0
