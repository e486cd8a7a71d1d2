"""Stress-testing a user's own classifier with counterfactuals: who answers, how far it moves, for whom, and where not.

`classifier` holds the user's callable to its contract, `asking` asks it, `movement` is the arithmetic, `tables` and
`shown` are what a report prints; `evaluation.audit` does it all.
"""
