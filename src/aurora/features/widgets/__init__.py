"""Widgets.

I own: where widgets are embedded. I do not own: what they show (forecast), what counts (usage).
"""
