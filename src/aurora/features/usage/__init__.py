"""Usage.

I own: taking events, each once; the raw rows, the rollups, and every reading of them; importing
files. I do not own: whether a request may pass (gate), quotas (limits), what it costs (invoices).
"""
