"""Floor 3: the rooms; each owns its tables, its rules, and its doors."""
