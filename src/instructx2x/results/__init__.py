"""Results on disk: who owns an output folder, what may be written and replaced in it, and how results are verified."""
