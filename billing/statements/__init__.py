"""Statements: what the ledger charged a tenant in a period, once for each entry, to the nano-USD.

periods → drafting (with content) → lifecycle, credit_notes → csv_file, xlsx_file, pdf_file.
docs/decisions/0013-statements.md says why.
"""
