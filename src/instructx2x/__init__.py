"""InstructX2X: counterfactual chest X-rays by instruction, confined and explained by a guidance map."""

__version__ = "0.1.0"
