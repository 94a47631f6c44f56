"""One module a concept; none imports another. :func:`aiexplained.concepts` lists them."""
