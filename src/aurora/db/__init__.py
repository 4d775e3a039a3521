"""Floor 1: everything that knows PostgreSQL and nothing that knows Aurora's business.

It owns: connections and transactions, named queries, migrations, the embedded server, and the
translation of database errors. It does not own: any table of a room, any rule, any HTTP.
"""
