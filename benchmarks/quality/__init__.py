"""What edit_quality.py and simulation_check.py are made of: rules of counting, tasks, tables."""
