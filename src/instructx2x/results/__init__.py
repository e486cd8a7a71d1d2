"""Results on disk: how they are sealed, and how their claims are checked."""
