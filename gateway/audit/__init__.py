"""What an auditor asks for: what happened to each call, that nothing of it was changed, and the same elsewhere.

    events        from a call to its events
    log           writes them in batches, without a query of the call's own
    refusals      keys that were refused, counted so that nobody fills the log with them
    kept_texts    prompts and answers, sealed, of tenants that keep them
    verification  reads chains and names the first bad row
    heads         the end of each chain, to be kept where nobody with the database can reach it
    retention     drops whole months, leaving in each chain what it went on from
    sinks         JSON log, webhook, OpenTelemetry; `sending` feeds them from the chains, `usage` from calls
    pages         the explorer in the admin; `chain_pages` has the chains and the export of their heads

Events of operators, commands and tasks are written by `tenants.audit.record`.
"""
