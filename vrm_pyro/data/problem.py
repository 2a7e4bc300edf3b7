"""The exception for an unusable row."""


class RowProblem(Exception):
    """The reason why a row cannot be used; the loader adds its location.

    Args:
        reason: Short name under which such rows are counted.
        message: What is wrong with this row and how to fix it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
