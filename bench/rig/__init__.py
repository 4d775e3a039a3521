"""What the benchmarks share: a PostgreSQL of their own, measuring, made-up traffic, and load.

It is a package and not files beside the benchmarks, because `make bench` runs every file there.
"""
