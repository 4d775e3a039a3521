"""API keys.

I own: making, showing once, listing, and revoking keys, and the record the gate decides on. I do
not own: the decision whether a request may pass (gate) or how much it may use (limits).
"""
