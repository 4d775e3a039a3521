"""E-invoices.

I own: how an issued invoice or credit note is written as EHF (Peppol BIS Billing 3.0), and whether
one can be written at all. I do not own: what stands on the document (invoices), or sending it.
"""
