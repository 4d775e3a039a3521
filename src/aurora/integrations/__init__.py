"""The outside world, without a word of the domain: documents, mail, files, payments, feeds."""
