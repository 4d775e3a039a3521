"""Plans.

I own: the catalogue of what can be bought. I do not own: what somebody bought (a subscription
copies it) or how it is billed.
"""
