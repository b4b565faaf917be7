"""Federations on Flower (https://flower.ai), by the extra `toolkit[flower]`.

`client` is the ClientApp: one device, however it is reached. `server` is the ServerApp: the rounds
of toolkit.federation over the nodes that a Grid has. `records` is what goes between them, `project`
writes the app that `flwr run` takes. Nothing outside of this package imports Flower.
"""
