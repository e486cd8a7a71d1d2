"""Results on disk: who owns an output folder, and what may be written, replaced and removed in it."""
