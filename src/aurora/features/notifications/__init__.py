"""Notifications.

I own: what the platform tells a person, each fact once. I do not own: when there is something to
tell; the rooms above call `app.notify_members()` in the transaction in which it became true.
"""
