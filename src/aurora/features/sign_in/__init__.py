"""Sign-in.

I own: how people prove who they are (password, one-time link), their sessions, and the operators'
service tokens. I do not own: who belongs to which organization, and with which role
(organizations), nor what anybody may do: PostgreSQL's policies and the services decide that.
"""
