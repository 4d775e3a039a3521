"""The audit: who changed what, when, and in which request, chained so that tampering shows.

I own: the events, the head of each organization's chain, the trigger that other rooms put on their
tables (`app.audit_table`), and the check of the chains. I do not own: what a change means, nor the
usage that keys make, which is metered and not audited.
"""
