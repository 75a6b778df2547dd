"""Files of tenants: what they send, what is made for them, and what is fetched from URLs they name.

`storage` keeps and reads them; `fetch` is the only way to a URL that a client gave; `multipart` reads forms without
holding them in memory; `records` are the rows, `backends` and `s3` the places the bytes are in.
"""
