"""What an application imports that is a customer of Aurora, or stands behind its gate.

I own: talking HTTP with Aurora, verifying and metering the requests of another application, and the
file in which events wait while Aurora is away. I do not own: any decision about a key, and nothing
that needs PostgreSQL: importing me loads none of the platform.
"""
