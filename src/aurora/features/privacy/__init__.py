"""What the law gives people: their data in one archive, and its erasure.

I own: what an export holds, and what an erasure replaces, removes, or keeps in every room. I do
not own: the rooms' tables, nor how long anything is kept otherwise. I stand above all rooms,
because what each room had to remember for itself would be forgotten by the next one.
"""
