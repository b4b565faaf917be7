"""The bar that commands show what they do with."""

from rich.progress import Progress


class Bar(Progress):
    """A bar of rich's that, switched off, writes nothing: in rich 14 its end is an empty line."""

    def stop(self) -> None:
        if not self.disable:
            super().stop()
