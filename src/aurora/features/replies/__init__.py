"""Replies.

I own: what an unsafe call that bears an Idempotency-Key was answered, sealed, for a day, so that
the same call again has the same answer and no second effect. I do not own: what the call does, who
may make it, or what is once by itself: events by their ids, verdicts.
"""
