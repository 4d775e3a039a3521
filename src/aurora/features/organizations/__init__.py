"""Organizations and users.

I own: the customers, the people in them and their roles, and the functions that every row level
policy stands on. I do not own: signing in, keys, or anything that is billed.
"""
