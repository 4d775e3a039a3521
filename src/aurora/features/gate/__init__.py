"""The gate.

I own: the one question whether a request with a key may pass, and its answer with a stable code. I
do not own: keys themselves, what was used, or what is billed.
"""
