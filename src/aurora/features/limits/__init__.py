"""Limits.

I own: how much of its quota an organization has used, and the warnings at 80 and 100 %. I do not
own: what is counted (usage) or what was bought (subscriptions).
"""
