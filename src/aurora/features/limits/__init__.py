"""Limits.

I own: how many requests each key was granted in the last hour and second, the leases by which
processes take them, how much of its quota an organization has used, and the warnings at 80 and
100 %. I do not own: which limit a key has (keys), what is counted (usage), or what was bought
(subscriptions).
"""
