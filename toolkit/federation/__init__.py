"""One adapter from many devices, whose data stays on them.

`settings` says what a federation is, `node` is one device in it, `aggregation` makes one adapter of
many, `rounds` is the loop over them, `store` what of it survives a kill, `card` what it tells.
"""
