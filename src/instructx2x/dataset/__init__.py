"""MIMIC-EDIT-INSTRUCTION from MIMIC-Diff-VQA: pairs, splits, instructions and prepared images."""
