"""What goes wrong with files."""


class ReadError(ValueError):
    """A file cannot be read as what it claims to be; the message says why and what to do."""
