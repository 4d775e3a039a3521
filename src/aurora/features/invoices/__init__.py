"""Invoices.

I own: the seller, what a billing moment costs, drafting (also of lines that somebody writes),
numbering without gaps, issued documents and what they look like. I do not own: what was bought
(subscriptions), what was used (usage), or how money arrives.
"""
