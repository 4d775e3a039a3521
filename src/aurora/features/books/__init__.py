"""Books.

I own: how a period's invoices, credit notes, and payments are posted, the journal as CSV, and the
SAF-T file. I do not own: the documents themselves (invoices), or any account that is not of sales.
"""
