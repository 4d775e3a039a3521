"""Subscriptions.

I own: what an organization bought, with the terms frozen as they were, and where its billing
stands. I do not own: the catalogue (plans), amounts and documents (invoices), quotas (limits).
"""
